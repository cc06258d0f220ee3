// What an owner most likely looks for before they have typed anything: files shared before, and what is new on the NAS.

import { request } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { words } from '../shared/words.js';
import { fileRow } from './file-row.js';
import { walkRows } from './paged-list.js';

/** @typedef {import('./file-row.js').Entry} Entry */

/** How many of each are shown: what fits above the list without pushing it away. */
const SHOWN = 4;

export class RecentFiles {
  #box;
  #actions;
  #asked = 0;

  /**
   * @param {HTMLElement} box
   * @param {import('./file-row.js').Actions} actions
   */
  constructor(box, actions) {
    this.#box = box;
    this.#actions = actions;
    box.addEventListener('keydown', (event) => walkRows(box, event));
  }

  async show() {
    const asked = ++this.#asked;
    /** @type {{shared: Entry[], newest: Entry[]}} */
    const recent = await request('GET', '/recent', { query: { limit: SHOWN } }).catch(() => ({ shared: [], newest: [] }));
    if (asked !== this.#asked) return;
    const part = (/** @type {string} */ name, /** @type {Entry[]} */ entries) => entries.length > 0 && element('section', { 'aria-label': name },
      element('h2', { class: 'small muted' }, name),
      element('ul', { class: 'rows' }, ...entries.map((entry) => element('li', {}, fileRow(entry, this.#actions, { showsPlace: true })))));
    const parts = [part(words.find.shared_before, recent.shared), part(words.find.newest, recent.newest)].filter((made) => made !== false);
    this.#box.replaceChildren(...parts);
    this.#box.hidden = parts.length === 0;
  }

  async hide() {
    this.#asked += 1;
    this.#box.hidden = true;
  }
}
