// The speed of the last minute as a small line. What it says stands beside it as text, so it is hidden from screen readers.

import { shape } from '../shared/dom.js';

/** How far back it looks. */
const SPAN_MS = 60_000;
/** How many points it keeps: progress comes at most twice a second. */
const MAX_POINTS = 120;

export class Sparkline {
  box = shape('svg', { class: 'sparkline', viewBox: '0 0 120 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  #line = shape('polyline', { points: '' });
  /** @type {{at: number, value: number}[]} */
  #points = [];

  constructor() {
    this.box.append(this.#line);
  }

  /**
   * @param {number} value
   * @param {number} [at] when, in milliseconds
   */
  add(value, at = Date.now()) {
    this.#points = [...this.#points, { at, value }].filter((point) => at - point.at <= SPAN_MS).slice(-MAX_POINTS);
    this.#line.setAttribute('points', pointsText(this.#points, at));
  }

  get isEmpty() {
    return this.#points.length < 2;
  }
}

/**
 * Places points in a box of 120 by 24: the first at its left end, now at its right.
 * @param {{at: number, value: number}[]} points
 * @param {number} now
 */
export function pointsText(points, now) {
  const most = Math.max(1, ...points.map((point) => point.value));
  const span = Math.max(1, now - (points[0]?.at ?? now));
  return points.map(({ at, value }) => `${(120 - ((now - at) / span) * 120).toFixed(1)},${(23 - (value / most) * 22).toFixed(1)}`).join(' ');
}
