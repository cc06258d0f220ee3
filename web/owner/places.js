// The screens of the page, by what stands in the address: `#/folder` is the first, with the files and the open doors; the
// others, as `#!history?outcome=stalled`, are loaded when they are first looked at.

import { element } from '../shared/dom.js';
import { words } from '../shared/words.js';

/**
 * What a screen is made with.
 * @typedef {{session: import('./app.js').Session, book: import('./share-book.js').ShareBook}} Context
 */
/**
 * A screen. It begins when it is connected, and ends what it began when it is disconnected.
 * @typedef {HTMLElement & {show: (asked: URLSearchParams) => void}} Screen
 */

/** @type {Record<string, {title: string, load: () => Promise<{default: new (context: Context) => Screen}>}>} */
const SCREENS = {
  history: { title: words.shell.history, load: () => import('./screens/history.js') },
  stats: { title: words.shell.stats, load: () => import('./screens/stats.js') },
  log: { title: words.shell.log, load: () => import('./screens/log.js') },
  settings: { title: words.shell.settings, load: () => import('./screens/settings.js') },
};

export class Places {
  #home;
  #box;
  #context;
  /** @type {string|null} */
  #name = null;
  /** @type {Screen|null} */
  #screen = null;

  /**
   * @param {{home: HTMLElement, screen: HTMLElement}} boxes
   * @param {Context} context
   */
  constructor(boxes, context) {
    this.#home = boxes.home;
    this.#box = boxes.screen;
    this.#context = context;
  }

  start() {
    addEventListener('hashchange', () => this.#follow(true));
    this.#follow(false);
  }

  /** What the title says of where the reader is; nothing at home. */
  get title() {
    return this.#name === null ? '' : SCREENS[this.#name].title;
  }

  /** @param {boolean} isMove whether somebody went there, and did not just open the page */
  async #follow(isMove) {
    const { name, asked } = placeOf(location.hash);
    for (const link of document.querySelectorAll('.places a')) {
      if (placeOf(/** @type {HTMLAnchorElement} */ (link).hash).name === name) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    this.#home.hidden = name !== null;
    this.#box.hidden = name === null;
    if (name === this.#name) {
      this.#screen?.show(asked);
      return;
    }
    this.#name = name;
    this.#screen = null;
    this.#box.replaceChildren();
    dispatchEvent(new Event('place'));
    if (name === null) return;
    const { title, load } = SCREENS[name];
    const heading = element('h1', { class: 'place' }, title);
    this.#box.append(heading);
    if (isMove) {
      this.#box.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    try {
      const { default: Made } = await load();
      if (this.#name !== name) return;
      this.#screen = new Made(this.#context);
      this.#box.append(this.#screen);
      this.#screen.show(placeOf(location.hash).asked);
    } catch (error) {
      console.error(error);
      if (this.#name === name) this.#box.append(element('p', { class: 'error', role: 'alert' }, words.shell.failed));
    }
  }
}

/**
 * Reads which screen an address asks for; `null` is the first.
 * @param {string} hash
 * @returns {{name: string|null, asked: URLSearchParams}}
 */
function placeOf(hash) {
  const [name, query] = hash.startsWith('#!') ? hash.slice(2).split('?', 2) : ['', ''];
  return { name: Object.hasOwn(SCREENS, name) ? name : null, asked: new URLSearchParams(query ?? '') };
}
