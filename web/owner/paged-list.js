// A list of any length: pages are fetched as the reader scrolls, and only those near the window are in the document.

import { element } from '../shared/dom.js';
import { words } from '../shared/words.js';

/** How far ahead of the window rows are fetched and built. */
const AHEAD = '1500px 0px';

/**
 * @template T
 * @typedef {{items: T[], cursor: string|null, total: number|null}} ListPage
 */

/** @template T */
export class PagedList {
  #box;
  #row;
  /** @type {{load: (cursor: string|null, signal: AbortSignal) => Promise<ListPage<T>>, empty: () => string}|null} */
  #source = null;
  #aborter = new AbortController();
  /** @type {string|null} */
  #cursor = null;
  /** @type {Map<Element, {items: T[], first: number}>} */
  #pages = new Map();
  #length = 0;
  /** @type {number|null} */
  #total = null;
  #end = element('div', { class: 'list-end' });
  #rows = element('div', { role: 'list' });
  #near;
  #atEnd;

  /**
   * @param {HTMLElement} box where the list stands
   * @param {(item: T) => HTMLElement} row builds one row of the class `row`, with what takes the keyboard of the class `key`; all are equally high
   */
  constructor(box, row) {
    this.#box = box;
    this.#row = row;
    box.append(this.#rows, this.#end);
    box.addEventListener('keydown', (event) => walkRows(box, event));
    this.#near = new IntersectionObserver((seen) => seen.forEach((s) => (s.isIntersecting ? this.#fill(s.target) : this.#clear(s.target))), {
      rootMargin: AHEAD,
    });
    this.#atEnd = new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && this.#more(), { rootMargin: AHEAD });
  }

  /**
   * Shows another list. What is shown stays until the first page of it is there; what is being fetched is given up.
   * @param {{load: (cursor: string|null, signal: AbortSignal) => Promise<ListPage<T>>, empty: () => string}} source
   * @returns {Promise<void>} once the first page is shown, or given up
   */
  show(source) {
    this.#aborter.abort();
    this.#aborter = new AbortController();
    this.#atEnd.disconnect();
    this.#source = source;
    this.#cursor = null;
    this.#box.setAttribute('aria-busy', 'true');
    return this.#fetch(true);
  }

  /** Moves the keyboard to the first row. */
  focusFirst() {
    /** @type {HTMLElement|null} */ (this.#rows.querySelector('.key'))?.focus();
  }

  #more() {
    if (this.#cursor !== null && this.#box.getAttribute('aria-busy') !== 'true') {
      this.#box.setAttribute('aria-busy', 'true');
      this.#fetch(false);
    }
  }

  /** @param {boolean} isFirst */
  async #fetch(isFirst) {
    const { signal } = this.#aborter;
    const source = this.#source;
    if (!source) return;
    try {
      const page = await source.load(isFirst ? null : this.#cursor, signal);
      if (signal.aborted) return;
      if (isFirst) this.#start();
      this.#append(page);
      this.#end.replaceChildren(this.#length === 0 ? element('p', { class: 'empty' }, source.empty()) : '');
    } catch (error) {
      if (signal.aborted) return;
      if (isFirst) this.#start();
      this.#showError(/** @type {Error} */ (error), isFirst);
    }
    this.#box.setAttribute('aria-busy', 'false');
    this.#atEnd.disconnect();
    if (this.#cursor !== null) this.#atEnd.observe(this.#end);
  }

  #start() {
    this.#near.disconnect();
    this.#pages.clear();
    this.#rows.replaceChildren();
    this.#length = 0;
    this.#cursor = null;
  }

  /** @param {ListPage<T>} page */
  #append({ items, cursor, total }) {
    this.#cursor = cursor;
    this.#total = total;
    if (items.length === 0) return;
    const box = element('div', { role: 'presentation', class: 'page' });
    this.#pages.set(box, { items, first: this.#length });
    this.#length += items.length;
    this.#rows.append(box);
    this.#fill(box);
    this.#near.observe(box);
  }

  /** @param {Element} box */
  #fill(box) {
    const page = this.#pages.get(box);
    if (!page || box.childElementCount > 0) return;
    box.replaceChildren(...page.items.map((item, index) => {
      const row = this.#row(item);
      const holder = element('div', { role: 'listitem', 'aria-posinset': page.first + index + 1, 'aria-setsize': this.#total ?? -1 }, row);
      return holder;
    }));
    /** @type {HTMLElement} */ (box).style.height = '';
  }

  /** Takes the rows of a page that is far away out of the document, and leaves their room. @param {Element} box */
  #clear(box) {
    if (box.childElementCount === 0 || box.contains(document.activeElement)) return;
    /** @type {HTMLElement} */ (box).style.height = `${box.getBoundingClientRect().height}px`;
    box.replaceChildren();
  }

  /**
   * @param {Error} error
   * @param {boolean} isFirst
   */
  #showError(error, isFirst) {
    const again = element('button', { type: 'button', class: 'button', onclick: () => {
      this.#end.replaceChildren();
      this.#box.setAttribute('aria-busy', 'true');
      this.#fetch(isFirst);
    } }, words.shell.retry);
    this.#end.replaceChildren(element('div', { class: 'failed' }, element('p', { class: 'error', role: 'alert' }, error.message), again));
  }
}

/**
 * Lets the arrow keys walk from row to row of a box; who walks up from its first row makes it dispatch `above`.
 * @param {HTMLElement} box
 * @param {KeyboardEvent} event
 */
export function walkRows(box, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const from = /** @type {HTMLElement} */ (event.target).closest('.row');
  if (!step || !from || event.altKey || event.ctrlKey || event.metaKey) return;
  const keys = /** @type {HTMLElement[]} */ ([...box.querySelectorAll('.key')]);
  const at = keys.findIndex((key) => from === key || from.contains(key));
  event.preventDefault();
  keys[at + step]?.focus();
  if (at + step < 0) box.dispatchEvent(new CustomEvent('above'));
}
