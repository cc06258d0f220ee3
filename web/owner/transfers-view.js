// Who downloaded a share: their program, how far they got, which parts of the file they have.

import { request } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { agentText, displayText, sizeText, timeText } from '../shared/format.js';

/**
 * @typedef {{id: string, state: string, agent: string, address: string|null, delivered_bytes: number, percent: number,
 *   coverage: [number, number][], evidence: string|null, bytes_per_second: number, redeemed_at: string, ended_at: string|null,
 *   end: string|null}} Transfer
 */

/** How often the list is loaded anew while the share moves. */
const REFRESH_MS = 1000;
const ENDS = {
  completed: 'All of it',
  stalled: 'Stopped: no data for too long',
  never_began: 'Never began; the link can be used again',
  stopped: 'You stopped it',
  cut: 'Cut off when the door closed',
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
    }, 'Stop');
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
  const word = transfer.evidence === 'handed_over' ? 'sent' : 'delivered';
  const end = transfer.end === null ? null : ENDS[/** @type {keyof typeof ENDS} */ (transfer.end)];
  if (transfer.end === 'completed') return `${end} ${word}`;
  const amount = `${sizeText(transfer.delivered_bytes)} (${transfer.percent} %) ${word}`;
  if (transfer.end === 'never_began') return ENDS.never_began;
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
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  for (const [name, value] of Object.entries({ class: 'coverage', viewBox: '0 0 1000 1', preserveAspectRatio: 'none', role: 'img', 'aria-label': text })) {
    svg.setAttribute(name, value);
  }
  for (const [start, end] of sizeBytes > 0 ? coverage : []) {
    const part = document.createElementNS(space, 'rect');
    const from = (start / sizeBytes) * 1000;
    // A short range must not vanish.
    const width = Math.max(2, ((end - start) / sizeBytes) * 1000);
    for (const [name, value] of Object.entries({ x: from, y: 0, width, height: 1 })) part.setAttribute(name, String(value));
    svg.append(part);
  }
  return svg;
}
