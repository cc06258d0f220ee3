// Listens to what happens to shares, and goes on listening when the connection breaks.

import { request } from '../shared/api.js';

/** How long to wait before the next try once the browser has given up; each failure doubles it, up to the second number. */
const RETRY_MS = [1_000, 30_000];

export class Live {
  #book;
  #onConnection;
  #failures = 0;
  #wasLost = false;

  /**
   * @param {import('./share-book.js').ShareBook} book
   * @param {(connected: boolean) => void} onConnection
   */
  constructor(book, onConnection) {
    this.#book = book;
    this.#onConnection = onConnection;
  }

  start() {
    const source = new EventSource('/api/v1/events/stream');
    source.addEventListener('open', () => {
      this.#failures = 0;
      this.#onConnection(true);
      // Also the first time: what happened between the page and the stream must not be missed.
      this.#resync();
    });
    source.addEventListener('share', (event) => this.#book.put(JSON.parse(event.data)));
    source.addEventListener('resync', () => this.#resync());
    source.addEventListener('error', () => {
      this.#onConnection(false);
      this.#wasLost = true;
      if (source.readyState === EventSource.CLOSED) this.#later();
    });
  }

  async #resync() {
    try {
      await this.#book.load();
    } catch (error) {
      if (this.#wasLost) console.warn('Loading the shares anew did not work:', error);
    }
  }

  /** A browser gives up on an answer that is no stream, as of a signed-out session or a proxy's error page. */
  #later() {
    const [first, last] = RETRY_MS;
    const wait = Math.min(last, first * 2 ** this.#failures);
    this.#failures += 1;
    setTimeout(async () => {
      // Where the session is over this leads to the sign-in page.
      await request('GET', '/session').catch(() => null);
      this.start();
    }, wait);
  }
}
