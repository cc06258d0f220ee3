// Plots as SVG, made by code: bars or a line over days, and ranks beside names. Each has a title and a summary for those who
// do not see it, a point for each value that the keyboard reaches, and the same figures as a table.

import { element, shape } from './dom.js';

/** How high a plot is, and the room for its axes, in CSS pixels. */
const HEIGHT = 200;
const MARGIN = { top: 12, right: 8, bottom: 26, left: 64 };
/** How many steps the axis of values has, about. */
const STEPS = 4;
/** How far apart the days below a plot are written, in CSS pixels. */
const LABEL_ROOM = 76;

/**
 * @typedef {{label: string, value: number|null, text: string}} Point what stands below it, how high it is (`null`: there is
 *   none), and both in words
 */
/**
 * @typedef {{title: string, summary: string, kind: 'bars'|'line', points: Point[], write: (value: number) => string,
 *   limit?: number, words: {when: string, value: string, table: string, read: string}}} Plot `limit`: where the axis ends,
 *   where that is known; `words`: the heads of the table, what opens it, and how to go through the points
 */

let count = 0;

/**
 * Returns round numbers from 0 up to `highest` or the next round one above it: 1, 2 or 5 times a power of ten apart.
 * @param {number} highest
 * @param {number} [steps] how many, about
 */
export function roundTicks(highest, steps = STEPS) {
  if (!(highest > 0)) return [0, 1];
  const rough = highest / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((round) => round * power >= rough * (1 - 1e-9)) ?? 10);
  return Array.from({ length: Math.ceil(highest / step - 1e-9) + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/**
 * Makes a plot, which fits itself to the room it has.
 * @param {Plot} plot
 */
export function plotOf(plot) {
  count += 1;
  const id = `plot-${count}`;
  const reading = element('p', { class: 'reading', 'aria-hidden': 'true' });
  const stage = element('div', { class: 'stage' });
  const figure = element('figure', { class: 'plot', 'aria-labelledby': id },
    element('figcaption', { id }, plot.title), reading, stage,
    element('details', { class: 'as-table' }, element('summary', {}, plot.words.table), tableOf(plot)));
  let chosen = 0;
  let drawn = 0;
  const draw = () => {
    const width = Math.floor(stage.clientWidth);
    if (width < 1 || width === drawn) return;
    drawn = width;
    const hadFocus = stage.contains(document.activeElement);
    stage.replaceChildren(picture(plot, width, id), reader(plot, width, chosen, (index) => {
      chosen = index;
      reading.textContent = plot.points[index]?.text ?? '';
    }));
    if (hadFocus) /** @type {HTMLElement|null} */ (stage.querySelector('[tabindex="0"]'))?.focus();
  };
  new ResizeObserver(draw).observe(stage);
  return figure;
}

/**
 * Where things stand in a plot of so many pixels.
 * @param {Plot} plot
 * @param {number} width
 */
function placesIn({ points, limit }, width) {
  const ticks = roundTicks(limit ?? Math.max(0, ...points.map(({ value }) => value ?? 0)));
  const top = ticks[ticks.length - 1];
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const band = inner.width / Math.max(1, points.length);
  return {
    ticks,
    band,
    x: (/** @type {number} */ index) => MARGIN.left + band * (index + 0.5),
    y: (/** @type {number} */ value) => MARGIN.top + inner.height * (1 - value / top),
  };
}

/**
 * @param {Plot} plot
 * @param {number} width
 * @param {string} id
 */
function picture(plot, width, id) {
  const { ticks, band, x, y } = placesIn(plot, width);
  const parts = [shape('title', { id: `${id}-title` }, plot.title), shape('desc', { id: `${id}-summary` }, plot.summary)];
  for (const tick of ticks) {
    parts.push(shape('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
    parts.push(shape('text', { class: 'tick', x: MARGIN.left - 8, y: y(tick) + 4, 'text-anchor': 'end' }, plot.write(tick)));
  }
  const every = Math.max(1, Math.ceil(LABEL_ROOM / band));
  // Counted from the newest, which is the one that is looked for.
  for (let index = plot.points.length - 1; index >= 0; index -= every) {
    const isLast = index === plot.points.length - 1 && band < LABEL_ROOM;
    const place = isLast ? { x: width - MARGIN.right, 'text-anchor': 'end' } : { x: x(index), 'text-anchor': 'middle' };
    if (place.x > MARGIN.left + LABEL_ROOM / 2 - 8) parts.push(shape('text', { class: 'tick', y: HEIGHT - 8, ...place }, plot.points[index].label));
  }
  parts.push(...(plot.kind === 'bars' ? bars(plot, band, x, y) : lines(plot, x, y)));
  return shape('svg', {
    class: 'picture', role: 'img', 'aria-labelledby': `${id}-title`, 'aria-describedby': `${id}-summary`, viewBox: `0 0 ${width} ${HEIGHT}`,
    width, height: HEIGHT,
  }, ...parts);
}

/**
 * @param {Plot} plot
 * @param {number} band
 * @param {(index: number) => number} x
 * @param {(value: number) => number} y
 */
function bars({ points }, band, x, y) {
  const breadth = Math.max(1, Math.min(28, band * 0.72));
  return points.flatMap(({ value }, index) => {
    if (!value) return [];
    // A little must not look like nothing.
    const height = Math.max(2, y(0) - y(value));
    const radius = Math.min(3, breadth / 3);
    return [shape('rect', { class: 'bar', x: x(index) - breadth / 2, y: y(0) - height, width: breadth, height, rx: radius })];
  });
}

/**
 * A dot for each value, a line where they follow one another, and a thin one over a gap.
 * @param {Plot} plot
 * @param {(index: number) => number} x
 * @param {(value: number) => number} y
 */
function lines({ points }, x, y) {
  const known = points.flatMap(({ value }, index) => (value === null ? [] : [{ index, x: x(index), y: y(value) }]));
  const steps = known.slice(1).map((at, index) => shape('path', {
    class: at.index - known[index].index > 1 ? 'line over-gap' : 'line',
    d: `M${known[index].x.toFixed(1)} ${known[index].y.toFixed(1)}L${at.x.toFixed(1)} ${at.y.toFixed(1)}`,
  }));
  return [...steps, ...known.map((at) => shape('circle', { class: 'dot', cx: at.x, cy: at.y, r: 3 }))];
}

/**
 * What lies over the picture for the pointer and the keyboard: a place for each value, of which one is in the order of Tab.
 * @param {Plot} plot
 * @param {number} width
 * @param {number} chosen
 * @param {(index: number) => void} onRead
 */
function reader(plot, width, chosen, onRead) {
  const { band, x } = placesIn(plot, width);
  const last = plot.points.length - 1;
  const start = chosen > 0 && chosen <= last ? chosen : last;
  const spots = plot.points.map(({ text }, index) => shape('rect', {
    class: 'spot', role: 'img', 'aria-label': text, tabindex: index === start ? 0 : -1,
    x: x(index) - band / 2, y: MARGIN.top, width: band, height: HEIGHT - MARGIN.top - MARGIN.bottom,
  }));
  const over = shape('svg', {
    class: 'reader', role: 'group', 'aria-label': `${plot.title}. ${plot.words.read}`, viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT,
  }, ...spots);
  const read = (/** @type {Event} */ event) => {
    const index = spots.indexOf(/** @type {SVGRectElement} */ (event.target));
    if (index >= 0) onRead(index);
  };
  over.addEventListener('pointerover', read);
  over.addEventListener('focusin', read);
  over.addEventListener('keydown', (event) => {
    const from = spots.indexOf(/** @type {SVGRectElement} */ (event.target));
    const { key } = /** @type {KeyboardEvent} */ (event);
    const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: last }[key];
    if (from < 0 || to === undefined) return;
    event.preventDefault();
    const next = spots[Math.max(0, Math.min(last, to))];
    spots[from].setAttribute('tabindex', '-1');
    next.setAttribute('tabindex', '0');
    next.focus();
  });
  return over;
}

/** @param {Plot} plot */
function tableOf({ title, points, write, words }) {
  const rows = points.map(({ label, value }) =>
    element('tr', {}, element('th', { scope: 'row' }, label), element('td', {}, value === null ? '–' : write(value))));
  return element('div', { class: 'scroll', role: 'region', 'aria-label': title, tabIndex: 0 }, element('table', {},
    element('caption', { class: 'unseen' }, title),
    element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, words.when), element('th', { scope: 'col' }, words.value))),
    element('tbody', {}, ...rows)));
}

/**
 * Draws how much one has beside others; what it says must stand beside it as text.
 * @param {number} value
 * @param {number} highest
 * @param {string} [kind] a class
 */
export function rankBar(value, highest, kind = '') {
  const width = highest > 0 ? Math.max(value > 0 ? 0.5 : 0, (value / highest) * 100) : 0;
  return shape('svg', { class: `rank ${kind}`, viewBox: '0 0 100 1', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    shape('rect', { x: 0, y: 0, width, height: 1 }));
}
