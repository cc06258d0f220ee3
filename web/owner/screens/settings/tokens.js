// API tokens: those that there are, a new one (shown once), and an end to each.

import { newKey, request } from '../../../shared/api.js';
import { announce, element } from '../../../shared/dom.js';
import { displayText } from '../../../shared/format.js';
import { timeAgo } from '../../../shared/time.js';
import { say, words } from '../../../shared/words.js';
import { copyField } from '../../copy-field.js';
import { Pane, ask, factLine, focusHeading, section, sign } from '../parts.js';

/**
 * @typedef {{id: string, name: string, scope: 'read'|'share'|'admin', created_at: string, expires_at: string|null,
 *   last_used_at: string|null}} Token
 */

/** What a token may do, the least first. */
const SCOPES = /** @type {const} */ (['read', 'share', 'admin']);
const DAY_SECONDS = 24 * 3600;
/** For how many days a token may be made; the last choice has no end. */
const LIVES = [7, 30, 90, 365];
/** The API's own bound is in bytes of UTF-8; what is longer it refuses in a sentence. */
const MAX_NAME = 100;

export function tokensSection() {
  const { settings } = words;
  const pane = new Pane();
  const made = element('div', { class: 'token-made', hidden: true });
  const load = () => pane.fill(() => request('GET', '/tokens'), ({ tokens }) => (tokens.length === 0
    ? [element('p', { class: 'nothing muted' }, settings.no_tokens)]
    : [element('ul', { class: 'people' }, ...tokens.map((/** @type {Token} */ token) => row(token, load)))]));
  load();
  return section('tokens', settings.tokens, element('p', { class: 'muted' }, settings.tokens_about), form(made, load), made, pane.box);
}

/**
 * @param {HTMLElement} made where a new token is shown
 * @param {() => Promise<void>} load
 */
function form(made, load) {
  const { settings } = words;
  const name = element('input', { id: 'token-name', required: true, maxLength: MAX_NAME, autocomplete: 'off', spellcheck: false });
  const scope = element('select', { id: 'token-scope' }, ...SCOPES.map((value) => element('option', { value }, settings.scopes[value])));
  const life = element('select', { id: 'token-life' },
    ...LIVES.map((days) => element('option', { value: String(days * DAY_SECONDS) }, days === 365 ? words.stats.year : say(words.stats.days, { n: days }))),
    element('option', { value: '' }, settings.for_ever));
  life.value = String(90 * DAY_SECONDS);
  scope.value = 'share';
  const button = element('button', { class: 'button' }, settings.token_create);
  const error = element('p', { class: 'error', role: 'alert', hidden: true });
  let key = newKey();
  const create = async (/** @type {Event} */ event) => {
    event.preventDefault();
    button.disabled = true;
    error.hidden = true;
    try {
      const body = { name: name.value, scope: scope.value, ...(life.value && { expires_in_seconds: Number(life.value) }) };
      const token = await request('POST', '/tokens', { body, key });
      const text = say(settings.token_made, { name: displayText(token.name) });
      made.replaceChildren(element('p', {}, sign('key', 'is-good'), text), copyField(settings.token_field, token.token, { isPrimary: true }));
      made.hidden = false;
      announce(text);
      made.querySelector('button')?.focus();
      name.value = '';
      load();
    } catch (problem) {
      error.textContent = /** @type {Error} */ (problem).message;
      error.hidden = false;
    }
    // A wish that was answered is over: the next press means another token.
    key = newKey();
    button.disabled = false;
  };
  const field = (/** @type {HTMLElement} */ input, /** @type {string} */ label, kind = '') =>
    element('div', { class: `field ${kind}` }, element('label', { for: input.id }, label), input);
  return element('form', { class: 'fields', onsubmit: create },
    field(name, settings.token_name, 'wide'), field(scope, settings.token_scope), field(life, settings.token_expiry), button, error);
}

/**
 * @param {Token} token
 * @param {() => Promise<void>} load
 */
function row(token, load) {
  const { settings } = words;
  const name = displayText(token.name);
  const isOver = token.expires_at !== null && Date.parse(token.expires_at) <= Date.now();
  const error = element('p', { class: 'error', role: 'alert', hidden: true });
  const revoke = element('button', { type: 'button', class: 'button danger', 'aria-label': say(settings.token_revoke_named, { name }), onclick: async () => {
    if (!await ask({ title: settings.token_ask, text: say(settings.token_ask_text, { name }), yes: settings.token_revoke })) return;
    revoke.disabled = true;
    try {
      await request('DELETE', `/tokens/${encodeURIComponent(token.id)}`);
      announce(say(settings.token_revoked, { name }));
      await load();
      focusHeading('tokens');
    } catch (problem) {
      revoke.disabled = false;
      error.textContent = /** @type {Error} */ (problem).message;
      error.hidden = false;
    }
  } }, settings.token_revoke);
  return element('li', {},
    sign('key', isOver ? 'is-quiet' : ''),
    element('div', { class: 'person-text' },
      element('p', {}, element('bdi', {}, name)),
      factLine(
        settings.scopes[token.scope] ?? token.scope,
        both(settings.made, token.created_at),
        token.expires_at === null ? settings.never_ends : both(isOver ? settings.ended : settings.ends, token.expires_at),
        token.last_used_at === null ? settings.never_used : both(settings.used, token.last_used_at)),
      error),
    revoke);
}

/** @param {string} word @param {string} at */
function both(word, at) {
  return element('span', {}, `${word} `, timeAgo(at));
}
