// Who downloaded a share: their program, how far they got, which parts of the file they have.

import { request } from '../shared/api.js';
import { element, shape } from '../shared/dom.js';
import { agentText, displayText, sizeText, timeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';

/**
 * @typedef {{id: string, state: string, agent: string, address: string|null, delivered_bytes: number, percent: number,
 *   coverage: [number, number][], evidence: string|null, bytes_per_second: number, redeemed_at: string, ended_at: string|null,
 *   end: 'completed'|'stalled'|'never_began'|'stopped'|'cut'|null}} Transfer
 */

/** How often the list is loaded anew while the share moves. */
const REFRESH_MS = 1000;
const ENDS = {
  stalled: words.share.end_stalled, never_began: words.share.end_never_began, stopped: words.share.end_stopped, cut: words.share.end_cut,
};

export class TransfersView {
  box = element('ul', { class: 'transfers' });
  #share;
  #onError;
  #loadedAt = 0;
  #timer = 0;
  #isLoading = false;

  /**
   * @param {import('./share-book.js').Share} share
   * @param {(error: Error) => void} onError
   */
  constructor(share, onError) {
    this.#share = share;
    this.#onError = onError;
    this.#load();
  }

  /** Loads the list anew, at most once in [`REFRESH_MS`]. @param {import('./share-book.js').Share} share */
  refresh(share) {
    this.#share = share;
    clearTimeout(this.#timer);
    const wait = Math.max(0, this.#loadedAt + REFRESH_MS - Date.now());
    this.#timer = setTimeout(() => this.box.isConnected && this.#load(), wait);
  }

  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      const { transfers } = await request('GET', `/shares/${encodeURIComponent(this.#share.id)}/transfers`);
      const focused = this.box.contains(document.activeElement) ? document.activeElement?.getAttribute('data-transfer') : null;
      this.box.replaceChildren(...transfers.map((/** @type {Transfer} */ transfer) => this.#row(transfer)));
      if (focused) /** @type {HTMLElement|null} */ (this.box.querySelector(`[data-transfer="${focused}"]`))?.focus();
    } catch (error) {
      this.#onError(/** @type {Error} */ (error));
    }
    this.#loadedAt = Date.now();
    this.#isLoading = false;
  }

  /** @param {Transfer} transfer */
  #row(transfer) {
    const now = new Date();
    const who = [agentText(transfer.agent), transfer.address && displayText(transfer.address)].filter(Boolean).join(' · ');
    const stop = transfer.end === null && element('button', {
      type: 'button', class: 'button quiet', 'data-transfer': transfer.id, onclick: (/** @type {Event} */ event) => this.#stop(transfer, event),
      'aria-label': say(words.share.stop_named, { who }),
    }, words.share.stop);
    return element('li', {},
      element('p', { title: displayText(transfer.agent) }, who),
      coverageBar(transfer.coverage, this.#share.size_bytes, `${transfer.percent} %`),
      element('p', { class: 'muted small' }, `${timeText(new Date(transfer.redeemed_at), now)} · ${howFar(transfer)}`),
      stop);
  }

  /**
   * @param {Transfer} transfer
   * @param {Event} event
   */
  async #stop(transfer, event) {
    /** @type {HTMLButtonElement} */ (event.currentTarget).disabled = true;
    try {
      await request('DELETE', `/shares/${encodeURIComponent(this.#share.id)}/transfers/${encodeURIComponent(transfer.id)}`);
      await this.#load();
    } catch (error) {
      this.#onError(/** @type {Error} */ (error));
    }
  }
}

/** @param {Transfer} transfer */
function howFar(transfer) {
  const { share } = words;
  const isSent = transfer.evidence === 'handed_over';
  if (transfer.end === 'completed') return isSent ? share.all_sent : share.all_delivered;
  const end = transfer.end === null ? null : ENDS[transfer.end];
  if (transfer.end === 'never_began') return share.end_never_began;
  const amount = say(isSent ? share.amount_sent : share.amount_delivered, { bytes: sizeText(transfer.delivered_bytes), percent: transfer.percent });
  if (end) return `${end} · ${amount}`;
  return transfer.bytes_per_second > 0 ? `${amount} · ${sizeText(transfer.bytes_per_second)}/s` : amount;
}

/**
 * Draws which parts of the file have arrived.
 * @param {[number, number][]} coverage
 * @param {number} sizeBytes
 * @param {string} text
 */
function coverageBar(coverage, sizeBytes, text) {
  const svg = shape('svg', { class: 'coverage', viewBox: '0 0 1000 1', preserveAspectRatio: 'none', role: 'img', 'aria-label': text });
  for (const [start, end] of sizeBytes > 0 ? coverage : []) {
    // A short range must not vanish.
    const width = Math.max(2, ((end - start) / sizeBytes) * 1000);
    svg.append(shape('rect', { x: (start / sizeBytes) * 1000, y: 0, width, height: 1 }));
  }
  return svg;
}
