// Times as people say them: `5 minutes ago`, with the whole date where the pointer rests. What is shown goes on counting.

import { element } from './dom.js';
import { language } from './words.js';

/** How often the times on the page are said anew: the smallest step that they show is a minute. */
const REFRESH_MS = 30_000;
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto' });
const absolute = new Intl.DateTimeFormat(language, { dateStyle: 'long', timeStyle: 'medium' });
let isRunning = false;

/**
 * Says how long ago a time was, or how far off it is: `now`, `in 2 hours`, `yesterday`. From a day on it counts days of the
 * calendar, in the reader's own zone. Nothing for a time that no calendar has.
 * @param {Date} at
 * @param {Date} now
 */
export function relativeText(at, now) {
  const seconds = (at.getTime() - now.getTime()) / 1000;
  if (Number.isNaN(seconds)) return '';
  const distance = Math.abs(seconds);
  if (distance < 45) return relative.format(0, 'second');
  if (distance < HOUR - 30) return relative.format(Math.sign(seconds) * Math.max(1, Math.round(distance / MINUTE)), 'minute');
  if (distance < DAY) return relative.format(Math.sign(seconds) * Math.round(distance / HOUR), 'hour');
  const days = daysApart(at, now);
  if (Math.abs(days) < 14) return relative.format(days, 'day');
  if (Math.abs(days) < 61) return relative.format(Math.trunc(days / 7), 'week');
  if (Math.abs(days) < 730) return relative.format(Math.trunc(days / 30.44), 'month');
  return relative.format(Math.trunc(days / 365.25), 'year');
}

/**
 * Counts the midnights between two times, in the reader's own zone.
 * @param {Date} at
 * @param {Date} now
 */
function daysApart(at, now) {
  const day = (/** @type {Date} */ time) => Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()) / 1000;
  return Math.round((day(at) - day(now)) / DAY);
}

/**
 * Writes a time out: `22 November 2026 at 10:46:00`.
 * @param {Date} at
 */
export function absoluteText(at) {
  return Number.isNaN(at.getTime()) ? '' : absolute.format(at);
}

/**
 * Returns when a day begins in the reader's own zone, or the one that many behind it; `null` for none.
 * @param {string} day as `2026-11-01`
 * @param {number} behind in days
 */
export function dayStart(day, behind) {
  const [, year, month, date] = /^(\d{4})-(\d{2})-(\d{2})$/.exec(day) ?? [];
  return year ? new Date(Number(year), Number(month) - 1, Number(date) + behind).toISOString() : null;
}

/**
 * Makes a `<time>` that says how long ago it was, and goes on saying so.
 * @param {string} at as RFC 3339 writes it
 */
export function timeAgo(at) {
  keepCounting();
  const date = new Date(at);
  return element('time', { dateTime: at, title: absoluteText(date), class: 'ago' }, relativeText(date, new Date()));
}

function keepCounting() {
  if (isRunning) return;
  isRunning = true;
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
  document.addEventListener('visibilitychange', () => document.hidden || refresh());
}

function refresh() {
  const now = new Date();
  for (const time of document.querySelectorAll('time.ago')) {
    const text = relativeText(new Date(/** @type {HTMLTimeElement} */ (time).dateTime), now);
    if (time.textContent !== text) time.textContent = text;
  }
}
