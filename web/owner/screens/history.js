// Every share that ended: found by outcome, name and day; each opens to who took it and what happened.

import { BASE, request } from '../../shared/api.js';
import { announce, element } from '../../shared/dom.js';
import { displayText, sizeText } from '../../shared/format.js';
import { dayStart, timeAgo } from '../../shared/time.js';
import { say, words } from '../../shared/words.js';
import { copyField } from '../copy-field.js';
import { TransfersView } from '../transfers-view.js';
import { Pane, addressOf, factLine, sign, signOfOutcome } from './parts.js';
import { downloadsText, lineRow, outcomeText, sentenceOf } from './sentences.js';
import './style.js';

/** @typedef {import('./sentences.js').Share} Share */
/** @typedef {{outcome: string, query: string, since: string, until: string}} Filters */

/** How many shares one request brings: some screens full. */
const PAGE = 50;
/** How many lines of one share are shown; one that was downloaded by hundreds has more, which the log shows. */
const LINES = 100;
/** How long nobody types before the page searches. */
const TYPING_MS = 250;
/** How long the page waits for more to end before it loads the list anew: closing all doors ends many at once. */
const SETTLE_MS = 500;
const OUTCOMES = ['completed', 'expired', 'stalled', 'revoked', 'timed_out', 'source_changed', 'failed'];

class HistoryScreen extends HTMLElement {
  #book;
  #mayShare;
  /** @type {Filters} */
  #filters = { outcome: '', query: '', since: '', until: '' };
  #chips = element('nav', { class: 'chips', 'aria-label': words.history.how_ended });
  #search = element('input', { type: 'search', id: 'history-search', maxLength: 200, autocomplete: 'off', spellcheck: false, oninput: () => this.#typed() });
  #since = element('input', { type: 'date', id: 'history-since', onchange: () => this.#changed() });
  #until = element('input', { type: 'date', id: 'history-until', onchange: () => this.#changed() });
  #found = element('p', { class: 'muted small', role: 'status' });
  #exports = element('p', { class: 'exports small' });
  #pane = new Pane();
  #list = element('ul', { class: 'rows' });
  #more = element('div', { class: 'more' });
  /** @type {string|null} */
  #cursor = null;
  /** @type {Set<string>} */
  #shown = new Set();
  /** @type {Set<string>} the ends that the list has taken in, or does not want: none of them has it loaded twice */
  #considered = new Set();
  #timer = 0;
  #settling = 0;
  #onShare = (/** @type {Event} */ event) => this.#heard(/** @type {CustomEvent} */ (event).detail);

  /** @param {import('../places.js').Context} context */
  constructor({ session, book }) {
    super();
    this.#book = book;
    this.#mayShare = session.scope !== 'read';
  }

  connectedCallback() {
    if (this.childElementCount === 0) this.#build();
    for (const share of this.#book.closed.values()) this.#considered.add(endOf(share));
    this.#book.addEventListener('share', this.#onShare);
  }

  disconnectedCallback() {
    this.#book.removeEventListener('share', this.#onShare);
    clearTimeout(this.#timer);
    clearTimeout(this.#settling);
  }

  /** @param {URLSearchParams} asked */
  show(asked) {
    const text = (/** @type {string} */ name) => asked.get(name) ?? '';
    this.#filters = { outcome: text('outcome'), query: text('query'), since: text('since'), until: text('until') };
    this.#since.value = this.#filters.since;
    this.#until.value = this.#filters.until;
    if (document.activeElement !== this.#search) this.#search.value = this.#filters.query;
    this.#load();
  }

  #build() {
    const { history } = words;
    const field = (/** @type {HTMLInputElement} */ input, /** @type {string} */ label, name = '') =>
      element('div', { class: `field ${name}` }, element('label', { for: input.id }, label), input);
    this.append(
      element('p', { class: 'lead muted' }, history.about),
      element('search', { class: 'filters', 'aria-label': history.filters },
        this.#chips,
        element('div', { class: 'fields' },
          field(this.#search, history.search, 'wide'), field(this.#since, history.since), field(this.#until, history.until))),
      element('div', { class: 'above' }, this.#found, this.#exports),
      this.#pane.box, this.#more);
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#changed(), TYPING_MS);
  }

  /** Takes what stands in the fields. The address follows, so that it can be kept; Back leaves the screen and not a letter. */
  #changed() {
    Object.assign(this.#filters, { query: this.#search.value.trim(), since: this.#since.value, until: this.#until.value });
    history.replaceState(history.state, '', addressOf('history', this.#filters));
    this.#load();
  }

  /** Loads the list anew once a share ended that is not on it, but never under the hands of who reads. @param {Share} share */
  #heard(share) {
    if (share.state !== 'closed' || this.#considered.has(endOf(share))) return;
    this.#considered.add(endOf(share));
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      const isAtRest = this.#shown.size <= PAGE && !this.querySelector('[aria-expanded="true"]') && !this.#list.contains(document.activeElement);
      if (isAtRest) this.#load();
    }, SETTLE_MS);
  }

  #query() {
    const { outcome, query, since, until } = this.#filters;
    return { outcome, query, since: dayStart(since, 0), until: dayStart(until, 1) };
  }

  async #load() {
    this.#showFilters();
    await this.#pane.fill(() => request('GET', '/history', { query: { ...this.#query(), limit: PAGE } }), (page) => {
      this.#list = element('ul', { class: 'rows' });
      this.#shown.clear();
      this.#add(page);
      if (page.shares.length > 0) return [this.#list];
      const isFiltered = Object.values(this.#filters).some(Boolean);
      return [element('div', { class: 'nothing' },
        element('p', { class: 'muted' }, isFiltered ? words.history.empty_filtered : words.history.empty),
        isFiltered && element('a', { href: addressOf('history', {}) }, words.history.clear))];
    });
  }

  async #loadOlder(/** @type {HTMLButtonElement} */ button) {
    button.disabled = true;
    try {
      const page = await request('GET', '/history', { query: { ...this.#query(), limit: PAGE, cursor: this.#cursor } });
      const before = this.#list.childElementCount;
      this.#add(page);
      /** @type {HTMLElement|null|undefined} */ (this.#list.children[before]?.querySelector('.disclose'))?.focus();
    } catch (error) {
      button.disabled = false;
      this.#more.append(element('p', { class: 'error', role: 'alert' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {{shares: Share[], next_cursor: string|null}} page */
  #add({ shares, next_cursor: cursor }) {
    this.#cursor = cursor;
    const fresh = shares.filter(({ id }) => !this.#shown.has(id));
    for (const share of fresh) {
      this.#shown.add(share.id);
      this.#considered.add(endOf(share));
    }
    this.#list.append(...fresh.map((share) => this.#row({ ...share, received: Date.now() })));
    const n = this.#shown.size;
    this.#found.textContent = n === 0 ? '' : cursor ? say(words.history.found_or_more, { n }) : say(words.history.found, { n });
    const older = element('button', { type: 'button', class: 'button', onclick: () => this.#loadOlder(older) }, words.screens.older);
    this.#more.replaceChildren(cursor ? older : '');
  }

  #showFilters() {
    const chip = (/** @type {string} */ outcome, /** @type {string} */ text) => {
      const isChosen = this.#filters.outcome === outcome;
      return element('a', { class: 'chip', href: addressOf('history', { ...this.#filters, outcome }), 'aria-current': isChosen ? 'true' : undefined },
        outcome ? sign(...signOfOutcome(outcome)) : null, text);
    };
    const hadFocus = this.#chips.contains(document.activeElement);
    this.#chips.replaceChildren(chip('', words.screens.any), ...OUTCOMES.map((outcome) => chip(outcome, outcomeText(outcome))));
    if (hadFocus) /** @type {HTMLElement|null} */ (this.#chips.querySelector('[aria-current]'))?.focus();
    const file = (/** @type {string} */ format) => {
      const asked = new URLSearchParams(Object.entries(this.#query()).flatMap(([name, value]) => (value ? [[name, value]] : [])));
      asked.set('format', format);
      return element('a', { href: `${BASE}/history?${asked}`, download: `history.${format}` }, format.toUpperCase());
    };
    this.#exports.replaceChildren(`${words.history.export} `, file('csv'), ' · ', file('jsonl'));
  }

  /** @param {Share} share */
  #row(share) {
    const name = displayText(share.name);
    const panel = element('div', { class: 'panel', hidden: true, id: `panel-${share.id}` });
    const disclose = element('button', {
      type: 'button', class: 'disclose', 'aria-expanded': 'false', 'aria-controls': panel.id, onclick: () => {
        panel.hidden = !panel.hidden;
        disclose.setAttribute('aria-expanded', String(!panel.hidden));
        if (panel.childElementCount === 0) panel.append(this.#details(share));
      },
    }, element('bdi', {}, name));
    const again = this.#mayShare && element('button', {
      type: 'button', class: 'button', 'aria-label': say(words.history.again_named, { name }), onclick: () => this.#shareAgain(share, again, row),
    }, words.history.again);
    const row = element('li', { class: 'row-share', 'data-share': share.id },
      element('div', { class: 'row-head' },
        element('span', { class: 'row-sign', title: outcomeText(share.outcome) }, sign(...signOfOutcome(share.outcome))),
        element('div', { class: 'row-text' },
          element('h2', {}, disclose),
          element('p', { class: 'said' }, sentenceOf(share, 'state_text')),
          factLine(sizeText(share.size_bytes), share.closed_at && timeAgo(share.closed_at), downloadsText(share))),
        again),
      panel);
    return row;
  }

  /**
   * @param {Share} share
   * @param {HTMLButtonElement|false} button
   * @param {HTMLElement} row
   */
  async #shareAgain(share, button, row) {
    if (!button) return;
    button.disabled = true;
    row.querySelector('.outcome-of-again')?.remove();
    const outcome = element('div', { class: 'outcome-of-again' });
    try {
      await this.#book.reopen(share.id);
      const url = this.#book.get(share.id)?.url;
      const text = say(words.history.shared_again, { name: displayText(share.name) });
      outcome.append(element('p', {}, text), url ? copyField(words.history.new_link, url, { isPrimary: true }) : '');
      button.hidden = true;
      announce(text);
      row.append(outcome);
      outcome.querySelector('button')?.focus();
    } catch (error) {
      button.disabled = false;
      outcome.append(element('p', { class: 'error', role: 'alert' }, /** @type {Error} */ (error).message));
      row.append(outcome);
    }
  }

  /** @param {Share} share */
  #details(share) {
    const { history } = words;
    const facts = [
      [history.path, element('bdi', {}, displayText(share.path))],
      [history.rules, sentenceOf(share, 'policy_text')],
      [history.made, timeAgo(share.created_at)],
      [history.note, share.note && displayText(share.note)],
      [history.message, share.message && displayText(share.message)],
    ];
    const lines = new Pane();
    lines.fill(() => request('GET', '/events', { query: { share: share.id, limit: LINES } }), ({ events }) => [
      element('ol', { class: 'log-lines' }, ...events.map((/** @type {import('./sentences.js').LogLine} */ line) => lineRow(line))),
    ]);
    const error = element('p', { class: 'error', role: 'alert', hidden: true });
    const showError = (/** @type {Error} */ { message }) => {
      error.textContent = message;
      error.hidden = false;
    };
    return element('div', { class: 'details' },
      element('dl', {}, ...facts.filter(([, value]) => value).map(([label, value]) =>
        element('div', {}, element('dt', {}, /** @type {string} */ (label)), element('dd', {}, /** @type {Node} */ (value))))),
      error,
      share.transfers > 0 && element('div', {}, element('h3', {}, history.who), new TransfersView(share, showError).box),
      element('div', {}, element('h3', {}, history.lines), lines.box,
        element('a', { class: 'small', href: addressOf('log', { share: share.id }) }, history.all_lines)));
  }
}

/** Names the end of a share: one that is opened again ends again. @param {import('../share-book.js').Share} share */
function endOf({ id, closed_at: at }) {
  return `${id} ${at}`;
}

customElements.define('history-screen', HistoryScreen);
export default HistoryScreen;
