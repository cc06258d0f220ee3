// "Check now": every prerequisite, whether it is met, and what to do where it is not.

import { request } from '../../../shared/api.js';
import { announce, element } from '../../../shared/dom.js';
import { timeAgo } from '../../../shared/time.js';
import { say, words } from '../../../shared/words.js';
import { Pane, section, sign } from '../parts.js';

/** @typedef {{name: string, status: 'ok'|'warning'|'wrong', text: string, fix: string|null}} Check */

/**
 * The sign of each, its colour, and its place in the list: what is wrong stands first.
 * @type {Record<Check['status'], [import('../parts.js').Sign, string]>}
 */
const STATUS = { wrong: ['bad', 'is-bad'], warning: ['warn', 'is-warn'], ok: ['good', 'is-good'] };

export function checkSection() {
  const { settings } = words;
  const pane = new Pane();
  const verdict = element('p', { class: 'verdict', role: 'status' });
  const button = element('button', { type: 'button', class: 'button', onclick: () => look(true) }, settings.check_now);
  const look = async (/** @type {boolean} */ isAsked) => {
    button.disabled = true;
    button.textContent = settings.checking;
    await pane.fill(() => request('GET', '/check'), ({ checks, checked_at: at }) => {
      verdict.replaceChildren(...verdictOf(checks), ' ', element('span', { class: 'muted small' }, `${settings.checked} `, timeAgo(at)));
      if (isAsked) announce(verdict.textContent ?? '');
      return [element('ul', { class: 'checks' }, ...ordered(checks).map(row))];
    });
    button.disabled = false;
    button.textContent = settings.check_now;
  };
  look(false);
  return section('check', settings.check,
    element('div', { class: 'card-head' }, element('p', { class: 'muted' }, settings.check_about), button), verdict, pane.box);
}

/** @param {Check[]} checks */
function verdictOf(checks) {
  const { settings } = words;
  const count = (/** @type {string} */ wanted) => checks.filter(({ status }) => status === wanted).length;
  const [wrong, warnings] = [count('wrong'), count('warning')];
  const worst = wrong > 0 ? 'wrong' : warnings > 0 ? 'warning' : 'ok';
  const text = wrong > 0 ? say(settings.some_wrong, { n: wrong }) : warnings > 0 ? say(settings.some_warn, { n: warnings }) : settings.all_well;
  return [sign(...STATUS[worst]), element('strong', {}, text)];
}

/** @param {Check[]} checks */
function ordered(checks) {
  const order = Object.keys(STATUS);
  return [...checks].sort((one, other) => order.indexOf(one.status) - order.indexOf(other.status));
}

/** @param {Check} check */
function row({ name, status, text, fix }) {
  const { settings } = words;
  const known = Object.hasOwn(STATUS, status) ? status : 'warning';
  // The server's own words are English.
  return element('li', { class: `check is-${known}` },
    sign(...STATUS[known]),
    element('div', {},
      element('p', {}, element('strong', { lang: 'en' }, name), ' ', element('span', { class: `status small ${STATUS[known][1]}` }, settings[known])),
      element('p', { lang: 'en' }, text),
      fix && element('p', { class: 'fix' }, element('span', { class: 'small' }, `${settings.fix}: `), element('span', { lang: 'en' }, fix))));
}
