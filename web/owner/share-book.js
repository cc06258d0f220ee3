// What the page knows about shares: those that live, by id, kept up to date by whoever hears of a change.

import { request } from '../shared/api.js';

/**
 * @typedef {{
 *   id: string, state: string, state_text: string, outcome: string|null, path: string, name: string, size_bytes: number,
 *   sha256: string|null, clamped: string[], url: string|null, curl: string|null, transfers: number, note: string|null,
 *   policy: {max_downloads: number, expires_in_seconds: number, on_stall: string, starts_at: string|null},
 *   progress: {delivered_bytes: number, size_bytes: number, percent: number, evidence: string|null, bytes_per_second: number,
 *     eta_seconds: number|null},
 *   created_at: string, expires_at: string, closed_at: string|null, until: string|null,
 *   received?: number,
 * }} Share
 */

/** How many living shares one request brings. */
const PAGE = 100;
/** How many closed ones one request brings: what is seen at a glance, and "Show older" for the rest. */
const HISTORY_PAGE = 20;
/** How many living shares are loaded at most: more than anybody reads in one list. The rest is told as a number of more. */
const MAX_LIVING = 500;
/** How many closed ones the page shows at most; whoever looks for one from long ago asks the API. */
const MAX_CLOSED = 1000;

/** Dispatches `change` whenever the set of shares changed, and `share` (with `detail`) for each share that did. */
export class ShareBook extends EventTarget {
  /** @type {Map<string, Share>} newest first */
  living = new Map();
  /** @type {Map<string, Share>} newest first */
  closed = new Map();
  /** @type {string|null} where the history goes on */
  olderCursor = null;
  hasMoreLiving = false;

  /** Loads everything that lives, and the newest of the history. */
  async load() {
    const living = new Map();
    let cursor = null;
    do {
      const page = await request('GET', '/shares', { query: { state: 'living', limit: PAGE, cursor } });
      for (const share of page.shares) living.set(share.id, stamped(share));
      cursor = page.next_cursor;
    } while (cursor && living.size < MAX_LIVING);
    this.hasMoreLiving = Boolean(cursor);
    const newest = await this.#historyPage(null);
    // Whoever follows a share must hear that it closed while nobody listened.
    const followed = [...this.living.keys()].filter((id) => !living.has(id));
    this.living = living;
    this.closed = newest;
    this.#changed();
    for (const share of [...living.values(), ...followed.map((id) => newest.get(id))]) {
      if (share) this.#shareChanged(share);
    }
  }

  /** Loads the next page of the history. */
  async loadOlder() {
    const older = await this.#historyPage(this.olderCursor);
    this.closed = new Map([...this.closed, ...older]);
    if (this.closed.size >= MAX_CLOSED) this.olderCursor = null;
    this.#changed();
  }

  /** @param {string|null} cursor */
  async #historyPage(cursor) {
    const page = await request('GET', '/shares', { query: { state: 'closed', limit: HISTORY_PAGE, cursor } });
    this.olderCursor = page.next_cursor;
    return new Map(page.shares.map((/** @type {Share} */ share) => [share.id, stamped(share)]));
  }

  /**
   * Takes a share as it stands now.
   * @param {Share} share
   */
  put(share) {
    const before = this.living.get(share.id) ?? this.closed.get(share.id);
    stamped(share);
    const isClosed = share.state === 'closed';
    const wanted = isClosed ? this.closed : this.living;
    const other = isClosed ? this.living : this.closed;
    const moved = !wanted.has(share.id);
    other.delete(share.id);
    if (isClosed) this.closed = moved ? new Map([[share.id, share], ...this.closed]) : this.closed.set(share.id, share);
    else this.living = moved ? new Map([[share.id, share], ...this.living]) : this.living.set(share.id, share);
    if (moved) this.#changed();
    this.#shareChanged(share, before);
  }

  /** @param {string} id */
  get(id) {
    return this.living.get(id) ?? this.closed.get(id);
  }

  /** @param {string} id */
  async close(id) {
    this.put(await request('DELETE', `/shares/${encodeURIComponent(id)}`));
  }

  /**
   * @param {string} id
   * @param {number} seconds
   */
  async extend(id, seconds) {
    this.put(await request('POST', `/shares/${encodeURIComponent(id)}/extend`, { body: { expires_in_seconds: seconds } }));
  }

  /** @param {string} id */
  async reopen(id) {
    this.put(await request('POST', `/shares/${encodeURIComponent(id)}/reopen`));
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  /**
   * @param {Share} share
   * @param {Share} [before]
   */
  #shareChanged(share, before) {
    this.dispatchEvent(new CustomEvent('share', { detail: { share, before } }));
  }
}

/**
 * Notes when a share was heard of: its sentence counts time from then.
 * @param {Share} share
 */
function stamped(share) {
  share.received = Date.now();
  return share;
}
