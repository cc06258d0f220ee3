// Days put together to weeks where there are too many to be drawn one by one. Pure; `tests/web/spans.test.mjs` holds it.

/** How many days are drawn one by one: more would be thinner than a finger or a pointer hits. */
const MAX_DAYS = 100;
const WEEK = 7;

/**
 * @typedef {{day: string, made: number, completed: number, delivered_bytes: number, closed?: number,
 *   outcomes?: Record<string, number>, median_bytes_per_second?: number|null}} Day
 */
/**
 * @typedef {{first: string, last: string, days: number, deliveredBytes: number, successPercent: number|null,
 *   bytesPerSecond: number|null}} Bundle `null`: nothing closed, or nobody says how fast it was
 */

/**
 * Puts days together: one by one where they are few, else by weeks, of which the last ends with the last day.
 * @param {Day[]} days in order
 * @returns {Bundle[]}
 */
export function bundled(days) {
  const size = days.length > MAX_DAYS ? WEEK : 1;
  const bundles = [];
  for (let end = days.length; end > 0; end -= size) bundles.unshift(bundleOf(days.slice(Math.max(0, end - size), end)));
  return bundles;
}

/** @param {Day[]} days */
function bundleOf(days) {
  const sum = (/** @type {(day: Day) => number} */ of) => days.reduce((total, day) => total + of(day), 0);
  const closed = sum((day) => day.closed ?? 0);
  const speeds = days.map((day) => day.median_bytes_per_second).filter((speed) => typeof speed === 'number');
  return {
    first: days[0].day,
    last: days[days.length - 1].day,
    days: days.length,
    deliveredBytes: sum((day) => day.delivered_bytes),
    successPercent: closed > 0 ? (sum((day) => day.outcomes?.completed ?? 0) / closed) * 100 : null,
    bytesPerSecond: median(speeds),
  };
}

/** Returns the middle one; of an even number the lower of both, so that it is a speed that was measured. @param {number[]} values */
function median(values) {
  if (values.length === 0) return null;
  return values.sort((one, other) => one - other)[Math.floor((values.length - 1) / 2)];
}
