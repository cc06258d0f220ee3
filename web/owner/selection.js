// The files that are picked to be shared together, and the bar that does it.

import { element } from '../shared/dom.js';
import { displayText } from '../shared/format.js';
import { say, words } from '../shared/words.js';
import { toast } from './toast.js';

/** The server's own bound on `paths`. */
const MAX_SELECTED = 100;
/** How many of them are named in the bar. */
const MAX_NAMED = 3;

/** @typedef {import('./file-row.js').Entry} Entry */

export class Selection {
  #bar;
  #onClear;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  #count = element('span', { role: 'status' });
  #share;

  /**
   * @param {HTMLElement} bar
   * @param {{share: (entries: Entry[], from: HTMLElement) => void, options: (entries: Entry[]) => void, cleared: () => void}} actions
   */
  constructor(bar, actions) {
    this.#bar = bar;
    this.#onClear = actions.cleared;
    this.#share = element('button', { type: 'button', class: 'button primary', onclick: () => actions.share(this.entries, this.#share) });
    bar.append(this.#count, element('span', { class: 'buttons' },
      element('button', { type: 'button', class: 'button quiet', onclick: () => this.clear() }, words.find.clear),
      element('button', { type: 'button', class: 'button', onclick: () => actions.options(this.entries) }, words.find.options),
      this.#share));
  }

  get entries() {
    return [...this.#entries.values()];
  }

  /** @param {Entry} entry */
  has(entry) {
    return this.#entries.has(entry.path);
  }

  /**
   * @param {Entry} entry
   * @param {boolean} isSelected
   */
  set(entry, isSelected) {
    if (!isSelected) this.#entries.delete(entry.path);
    else if (this.#entries.size < MAX_SELECTED) this.#entries.set(entry.path, entry);
    else toast(say(words.find.most_selected, { n: MAX_SELECTED }), { isError: true });
    this.#show();
  }

  clear() {
    if (this.#entries.size === 0) return;
    this.#entries.clear();
    this.#show();
    this.#onClear();
  }

  #show() {
    const n = this.#entries.size;
    this.#bar.hidden = n === 0;
    const names = this.entries.slice(0, MAX_NAMED).map((entry) => displayText(entry.name));
    this.#count.textContent = n === 0 ? '' : `${say(words.find.selected, { n })}: ${names.join(', ')}${n > MAX_NAMED ? ' …' : ''}`;
    this.#share.textContent = say(words.find.share_selected, { n });
  }
}
