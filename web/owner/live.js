// Listens to what happens to shares, and goes on listening when the connection breaks.

import { BASE, request } from '../shared/api.js';

/** How long to wait before the next try once the browser has given up; each failure doubles it, up to the second number. */
const RETRY_MS = [1_000, 30_000];
/** How often a tab that nobody looks at asks instead, while doors are open: for its title and for notifications. */
const HIDDEN_ASK_MS = 5_000;

export class Live {
  /** Dispatches also `log` (with `detail`, a line of the event log) and `resynced` (lines may have been missed). */
  #book;
  #onConnection;
  /** @type {EventSource|null} */
  #source = null;
  #timer = 0;
  #failures = 0;

  /**
   * @param {import('./share-book.js').ShareBook} book
   * @param {(connected: boolean) => void} onConnection
   */
  constructor(book, onConnection) {
    this.#book = book;
    this.#onConnection = onConnection;
  }

  /**
   * Listens for as long as the page is looked at. A browser opens six connections to one host at most: six forgotten tabs
   * that went on listening would leave none for the seventh, so those ask from time to time.
   */
  start() {
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) return this.#rest();
      // What happened while nobody looked is not known yet.
      this.#book.dispatchEvent(new Event('stale'));
      this.#connect();
    });
    addEventListener('offline', () => this.#lost());
    addEventListener('online', () => !document.hidden && this.#connect());
    if (document.hidden) this.#rest();
    else this.#connect();
  }

  #connect() {
    this.#disconnect();
    const source = new EventSource(`${BASE}/events/stream`);
    this.#source = source;
    source.addEventListener('open', () => {
      // Each time: what happened while nobody listened must not be missed.
      this.#resync();
    });
    source.addEventListener('share', (event) => this.#book.put(JSON.parse(event.data)));
    source.addEventListener('log', (event) => this.#book.dispatchEvent(new CustomEvent('log', { detail: JSON.parse(event.data) })));
    source.addEventListener('resync', () => this.#resync());
    source.addEventListener('error', () => {
      this.#lost();
      if (source.readyState === EventSource.CLOSED) this.#connectLater();
    });
  }

  /** Tells that what the book holds may be over. */
  #lost() {
    this.#book.dispatchEvent(new Event('stale'));
    this.#onConnection(false);
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #rest() {
    this.#disconnect();
    this.#timer = setTimeout(async () => {
      if (this.#book.living.size > 0) await this.#book.load().catch(() => null);
      if (document.hidden) this.#rest();
    }, HIDDEN_ASK_MS);
  }

  async #resync() {
    try {
      await this.#book.load();
      this.#book.dispatchEvent(new Event('resynced'));
      this.#failures = 0;
      this.#onConnection(true);
    } catch {
      this.#lost();
      this.#connectLater();
    }
  }

  /** A browser gives up on an answer that is no stream, as of a signed-out session or a proxy's error page. */
  #connectLater() {
    this.#disconnect();
    const [first, last] = RETRY_MS;
    const wait = Math.min(last, first * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(async () => {
      // Where the session is over this leads to the sign-in page.
      await request('GET', '/session').catch(() => null);
      if (!document.hidden) this.#connect();
    }, wait);
  }
}
