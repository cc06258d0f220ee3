// The names of shares that are known by their ids: those that the page knows already, and the rest asked for one by one.

import { request } from '../../shared/api.js';
import { element } from '../../shared/dom.js';
import { displayText } from '../../shared/format.js';

/** How many requests run at once: a browser opens six connections to one host, and one of them is the live stream's. */
const AT_ONCE = 3;
/** How many names are kept: those of some pages of the log. */
const KEPT = 2000;

export class ShareNames {
  #book;
  /** @type {Map<string, Promise<string>>} */
  #asked = new Map();
  /** @type {(() => void)[]} */
  #waiting = [];
  #running = 0;

  /** @param {import('../share-book.js').ShareBook} book */
  constructor(book) {
    this.#book = book;
  }

  /** Makes an element that shows the name once it is known, and until then (or where nobody knows it) the id. @param {string} id */
  element(id) {
    const shown = element('bdi', {}, this.#book.get(id)?.name ? displayText(this.#book.get(id)?.name ?? '') : id);
    if (!this.#book.get(id)) this.#ask(id).then((name) => { shown.textContent = displayText(name); }, () => {});
    return shown;
  }

  /** @param {string} id */
  #ask(id) {
    const known = this.#asked.get(id);
    if (known) return known;
    if (this.#asked.size >= KEPT) this.#asked.clear();
    const name = this.#fetch(id);
    this.#asked.set(id, name);
    return name;
  }

  /** @param {string} id */
  async #fetch(id) {
    if (this.#running >= AT_ONCE) await new Promise((resolve) => { this.#waiting.push(() => resolve(null)); });
    this.#running += 1;
    try {
      return (await request('GET', `/shares/${encodeURIComponent(id)}`)).name;
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}
