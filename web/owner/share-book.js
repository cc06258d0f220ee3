// What the page knows about shares: those that live, by id, kept up to date by whoever hears of a change.

import { request } from '../shared/api.js';

/**
 * @typedef {{
 *   id: string, state: string, state_text: string, outcome: string|null, path: string, name: string, size_bytes: number,
 *   sha256: string|null, clamped: string[], url: string|null, curl: string|null, transfers: number, note: string|null,
 *   message: string|null, policy_text: string,
 *   policy: {max_downloads: number|null, expires_in_seconds: number, on_stall: string, starts_at: string|null,
 *     allowed_networks: string[], max_bytes_per_second: number|null},
 *   progress: {delivered_bytes: number, size_bytes: number, percent: number, evidence: string|null, bytes_per_second: number,
 *     eta_seconds: number|null},
 *   tunnel: {backend: string, state: string, problem: string|null, reachable: string|null, reach_problem: string|null},
 *   looks?: {previews: number, people: number}, undo_until?: string|null,
 *   active?: {id: string, agent: string, address: string|null, percent: number, bytes_per_second: number}[],
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

/** Dispatches `change` whenever the set of shares changed or was loaded, `stale` when what it holds may be over, and `share` (with `detail`) for each share that did. */
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
    const known = new Map([...this.closed, ...this.living]);
    const living = new Map();
    let cursor = null;
    do {
      const page = await request('GET', '/shares', { query: { state: 'living', limit: PAGE, cursor } });
      for (const share of page.shares) living.set(share.id, stamped(share));
      cursor = page.next_cursor;
    } while (cursor && living.size < MAX_LIVING);
    this.hasMoreLiving = Boolean(cursor);
    const newest = await this.#historyPage(null);
    // What was heard while the pages were on their way is later than they are.
    const news = [...this.closed.values(), ...this.living.values()].filter((share) => known.get(share.id) !== share);
    // One that closed between the two requests stands on both pages.
    for (const id of newest.keys()) living.delete(id);
    this.living = living;
    this.closed = newest;
    for (const share of news) this.#place(share);
    this.#changed();
    for (const share of [...this.living.values(), ...this.closed.values()]) this.#shareChanged(share);
  }

  /** Loads the next page of the history. */
  async loadOlder() {
    const older = await this.#historyPage(this.olderCursor);
    for (const [id, share] of older) if (!this.get(id)) this.closed.set(id, share);
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
    const moved = this.#place(stamped(share));
    if (moved) this.#changed();
    this.#shareChanged(share);
  }

  /**
   * Puts a share where it belongs; returns whether it was not there before.
   * @param {Share} share
   */
  #place(share) {
    const isClosed = share.state === 'closed';
    const [wanted, other] = isClosed ? [this.closed, this.living] : [this.living, this.closed];
    other.delete(share.id);
    const isNew = !wanted.has(share.id);
    const placed = isNew ? new Map([[share.id, share], ...wanted]) : wanted.set(share.id, share);
    if (isClosed) this.closed = placed;
    else this.living = placed;
    return isNew;
  }

  /** @param {string} id */
  get(id) {
    return this.living.get(id) ?? this.closed.get(id);
  }

  /**
   * Makes a share, and returns it.
   * @param {object} wish the body of the request
   * @param {string} key makes it safe to send the same wish again
   * @returns {Promise<Share>}
   */
  async create(wish, key) {
    return this.made(await request('POST', '/shares', { body: wish, key }));
  }

  /** Takes a share that was just made. @param {Share} share */
  made(share) {
    if (!this.get(share.id)) this.put(share);
    return stamped(share);
  }

  /** @param {string} id */
  close(id) {
    return this.#change(id, 'DELETE', '');
  }

  /**
   * @param {string} id
   * @param {number} seconds
   */
  extend(id, seconds) {
    return this.#change(id, 'POST', '/extend', { expires_in_seconds: seconds });
  }

  /** Lets a share that was closed before its first byte go on as if it had not been. @param {string} id */
  undo(id) {
    return this.#change(id, 'POST', '/reopen', { undo: true });
  }

  /** Closes every door. */
  async closeAll() {
    await request('DELETE', '/shares');
    await this.load();
  }

  /** @param {string} id */
  reopen(id) {
    return this.#change(id, 'POST', '/reopen');
  }

  /**
   * @param {string} id
   * @param {'POST'|'DELETE'} method
   * @param {string} what
   * @param {object} [body]
   */
  async #change(id, method, what, body) {
    const known = this.get(id);
    const share = await request(method, `/shares/${encodeURIComponent(id)}${what}`, { body });
    // The stream may have been faster than the answer, which then is older than what it told.
    if (this.get(id) === known) this.put(share);
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** @param {Share} share */
  #shareChanged(share) {
    this.dispatchEvent(new CustomEvent('share', { detail: share }));
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
