// The shares of the page: those that live, and below them those that closed.

import { element } from '../shared/dom.js';
import { words } from '../shared/words.js';
import { ShareCard } from './share-card.js';

/** From this width on there is room for the history beside the files. */
const WIDE = '(min-width: 62rem)';

export class SharesPanel {
  #book;
  #boxes;
  #session;
  /** @type {Map<string, ShareCard>} */
  #cards = new Map();

  /**
   * @param {import('./share-book.js').ShareBook} book
   * @param {{living: HTMLElement, closed: HTMLElement, history: HTMLDetailsElement}} boxes
   * @param {import('./app.js').Session} session
   */
  constructor(book, boxes, session) {
    this.#book = book;
    this.#boxes = boxes;
    this.#session = session;
  }

  start() {
    this.#boxes.history.open = matchMedia(WIDE).matches;
    this.#book.addEventListener('change', () => this.#arrange());
    this.#book.addEventListener('share', (/** @type {any} */ event) => this.#cards.get(event.detail.id)?.update(event.detail));
    setInterval(() => this.#cards.forEach((card) => card.isConnected && card.tick()), 1000);
  }

  /**
   * Shows the link of the first of the shares that were just made.
   * @param {import('./share-book.js').Share[]} shares
   * @param {boolean} copied whether the links are on the clipboard
   */
  showLink([first], copied) {
    this.#cards.get(first.id)?.showLink({ copied });
  }

  /** Puts each share's card where it belongs; a card that stays is not touched, so nobody loses what they were doing. */
  #arrange() {
    const { living, closed } = this.#boxes;
    const book = this.#book;
    for (const id of this.#cards.keys()) if (!book.get(id)) this.#cards.delete(id);
    this.#fill(living, book.living, book.living.size === 0
      ? element('p', { class: 'empty' }, words.share.none_open)
      : book.hasMoreLiving && element('p', { class: 'empty' }, words.share.more_living));
    this.#fill(closed, book.closed, book.closed.size === 0
      ? element('p', { class: 'empty' }, words.share.none_closed)
      : book.olderCursor !== null && this.#olderButton());
  }

  /**
   * @param {HTMLElement} box
   * @param {Map<string, import('./share-book.js').Share>} shares
   * @param {HTMLElement|false} last
   */
  #fill(box, shares, last) {
    const wanted = [...shares.values()].map((share) => this.#card(share));
    for (const child of [...box.children]) if (!wanted.includes(/** @type {any} */ (child))) child.remove();
    wanted.forEach((card, index) => {
      if (box.children[index] !== card) box.insertBefore(card, box.children[index] ?? null);
    });
    // A list has items alone.
    if (last) box.append(element('div', { role: 'listitem' }, last));
  }

  /** @param {import('./share-book.js').Share} share */
  #card(share) {
    const card = this.#cards.get(share.id) ?? new ShareCard(share, this.#book, this.#session);
    this.#cards.set(share.id, card);
    return card;
  }

  #olderButton() {
    const button = element('button', { type: 'button', class: 'button quiet', onclick: async () => {
      button.disabled = true;
      await this.#book.loadOlder().catch((error) => { button.textContent = error.message; });
      button.disabled = false;
    } }, words.share.older);
    return button;
  }
}
