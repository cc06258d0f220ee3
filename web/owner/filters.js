// Narrows what is shown down: kind, size, when it changed, and in which order a folder stands.

import { element } from '../shared/dom.js';
import { sizeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';

const MB = 1_000_000;
const DAY_MS = 24 * 3600 * 1000;
const KINDS = /** @type {const} */ (['folder', 'image', 'video', 'audio', 'document', 'archive', 'other']);
const SIZES = [10 * MB, 100 * MB, 1000 * MB, 10_000 * MB];
const DAYS = [7, 30, 365];

export class Filters {
  box = element('div', { class: 'filters' });
  #kind = choice(words.find.kind, [['', words.find.any_kind], ...KINDS.map((kind) => [kind, words.find[`kind_${kind}`]])]);
  #size = choice(words.find.size, [['', words.find.any_size], ...SIZES.map((bytes) => [`>${bytes}`, say(words.find.larger, { size: sizeText(bytes) })]),
    [`<${MB}`, say(words.find.smaller, { size: sizeText(MB) })]]);
  #changed = choice(words.find.changed, [['', words.find.any_time], ['0', words.find.today], ...DAYS.map((n) => [String(n), say(words.find.last_days, { n })])]);
  #sort = choice(words.find.order, [['name', words.find.by_name], ['newest', words.find.newest_first], ['largest', words.find.largest_first]]);

  /** @param {() => void} onChange */
  constructor(onChange) {
    for (const select of [this.#kind, this.#size, this.#changed, this.#sort]) {
      select.addEventListener('change', onChange);
      this.box.append(select);
    }
  }

  /** Whether anything is left out. */
  get isOn() {
    return [this.#kind, this.#size, this.#changed].some((select) => select.value !== '');
  }

  /** Forgets what is left out. */
  clear() {
    for (const select of [this.#kind, this.#size, this.#changed]) select.value = '';
  }

  /** Says whether the order can be chosen: what a search finds stands best first. @param {boolean} isSearch */
  forSearch(isSearch) {
    this.#sort.disabled = isSearch;
    for (const select of [this.#kind, this.#size, this.#changed]) select.classList.toggle('on', select.value !== '');
  }

  /** What is asked of the API. @param {Date} now */
  query(now) {
    const size = this.#size.value;
    return {
      kind: this.#kind.value,
      min_bytes: size.startsWith('>') ? size.slice(1) : '',
      max_bytes: size.startsWith('<') ? String(Number(size.slice(1)) - 1) : '',
      changed_since: this.#changed.value === '' ? '' : since(Number(this.#changed.value), now).toISOString(),
      sort: this.#sort.disabled ? '' : this.#sort.value,
    };
  }
}

/**
 * Returns the midnight that so many days ago began.
 * @param {number} days
 * @param {Date} now
 */
function since(days, now) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  return new Date(midnight.getTime() - days * DAY_MS);
}

/**
 * @param {string} label
 * @param {string[][]} choices
 */
function choice(label, choices) {
  return element('select', { 'aria-label': label }, ...choices.map(([value, text]) => element('option', { value }, text)));
}
