// What reaches an owner who looks elsewhere: the tab's title, and the system's notifications.

import { displayText, localTimes } from '../shared/format.js';
import { say, words } from '../shared/words.js';

/** @typedef {import('./share-book.js').Share} Share */

const NAME = 'Portcullis';
/** The states in which bytes move or may go on to. */
const RUNNING = ['transferring', 'waiting'];

/** Whether the system can be asked to tell: not on plain HTTP, except on the machine itself. */
export function canNotify() {
  return isSecureContext && 'Notification' in globalThis;
}

export class Notices {
  #book;
  #place;
  /** @type {Map<string, string>} each share's state as it was last heard of */
  #states = new Map();

  /**
   * @param {import('./share-book.js').ShareBook} book
   * @param {() => string} place what the title says of where the reader is
   */
  constructor(book, place) {
    this.#book = book;
    this.#place = place;
  }

  start() {
    this.#book.addEventListener('share', (/** @type {any} */ event) => {
      this.#heard(event.detail);
      this.#showTitle();
    });
    this.#book.addEventListener('change', () => this.#showTitle());
    addEventListener('place', () => this.#showTitle());
    this.#showTitle();
  }

  #showTitle() {
    const title = titleOf([...this.#book.living.values()], this.#place());
    if (document.title !== title) document.title = title;
  }

  /** @param {Share} share */
  #heard(share) {
    const before = this.#states.get(share.id);
    this.#states.set(share.id, share.state);
    if (share.state === 'closed') this.#states.delete(share.id);
    if (before === undefined || before === share.state || !canNotify() || Notification.permission !== 'granted') return;
    const isDelivered = share.state === 'delivered' || (share.outcome === 'completed' && before !== 'delivered' && before !== 'closing');
    const hasFailed = share.state === 'closed' && ['stalled', 'source_changed', 'timed_out', 'failed'].includes(share.outcome ?? '');
    if (!isDelivered && !hasFailed) return;
    const title = say(isDelivered ? words.share.delivered_title : words.share.ended_title, { name: displayText(share.name) });
    try {
      new Notification(title, { body: localTimes(share.state_text, new Date()), tag: share.id, icon: new URL('../shared/icon.svg', import.meta.url).href });
    } catch {
      // Chrome on Android lets only service workers notify.
    }
  }
}

/**
 * Writes the tab's title: how far the download is that runs, or how many do.
 * @param {Share[]} living
 * @param {string} place
 */
export function titleOf(living, place) {
  const running = living.filter((share) => RUNNING.includes(share.state));
  const rest = place === '' ? NAME : `${place} – ${NAME}`;
  if (running.length === 0) return rest;
  const least = Math.min(...running.map((share) => share.progress.percent));
  const what = running.length === 1 ? displayText(running[0].name) : `${running.length} ↓`;
  return `${least} % ${what} – ${rest}`;
}
