// How sizes, times and names are written, in the reader's language. Pure functions; `tests/web/format.test.mjs` holds them.

import { language, say, words } from './words.js';

const UNITS = ['kB', 'MB', 'GB', 'TB', 'PB', 'EB'];
const { units } = words;

/**
 * Writes a length in decimal units as people do: `1 byte`, `412 MB`, `1.9 GB`; the same as the server writes.
 * @param {number} bytes
 */
export function sizeText(bytes) {
  if (bytes < 1000) return say(units.bytes, { n: bytes });
  let value = bytes;
  for (const [index, unit] of UNITS.entries()) {
    value /= 1000;
    if (Math.round(value * 10) < 100) return `${(Math.round(value * 10) / 10).toFixed(1).replace('.', units.decimal)} ${unit}`;
    if (Math.round(value) < 1000 || index === UNITS.length - 1) return `${Math.round(value)} ${unit}`;
  }
  return say(units.bytes, { n: bytes });
}

/**
 * Writes a length of time in its one or two largest units: `5 minutes`, `1 hour 30 minutes`.
 * @param {number} seconds
 */
export function durationText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  /** @typedef {'second'|'minute'|'hour'|'day'} Unit */
  const pair = (/** @type {number} */ size, /** @type {Unit} */ unit, /** @type {number} */ smaller, /** @type {Unit} */ smallerUnit) => {
    const rest = Math.floor((whole % size) / smaller);
    return say(units[unit], { n: Math.floor(whole / size) }) + (rest ? ` ${say(units[smallerUnit], { n: rest })}` : '');
  };
  if (whole < 60) return say(units.second, { n: whole });
  if (whole < 3600) return pair(60, 'minute', 1, 'second');
  if (whole < 86400) return pair(3600, 'hour', 60, 'minute');
  return pair(86400, 'day', 3600, 'hour');
}

/**
 * Writes a time in the reader's own zone: the time of day, with the date where it is not today's.
 * @param {Date} at
 * @param {Date} now
 */
export function timeText(at, now) {
  const clock = `${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`;
  if (at.toDateString() === now.toDateString()) return clock;
  return `${dateText(at, now)} ${clock}`;
}

/**
 * Writes a day, with the year where it is not this one; nothing for a time that no calendar has, as files may claim.
 * @param {Date} at
 * @param {Date} now
 */
export function dateText(at, now) {
  if (Number.isNaN(at.getTime())) return '';
  const isThisYear = at.getFullYear() === now.getFullYear();
  const date = { day: at.getDate(), month: units.months[at.getMonth()], year: String(at.getFullYear()) };
  return say(isThisYear ? units.date : units.date_of_year, date);
}

const UTC_TIME = /(?:(\d{1,2})\.? (\p{L}{3,5}\.?) (?:(\d{4}) )?)?(\d{2}):(\d{2}) UTC/gu;

/**
 * Puts the times in one of the server's sentences (`15:42 UTC`, `21 Nov 15:42 UTC`, `21 Nov 2025 15:42 UTC`) into the
 * reader's own zone.
 * @param {string} sentence
 * @param {Date} written when the server wrote it: what a time without a date is of
 * @param {Date} [now]
 */
export function localTimes(sentence, written, now = new Date()) {
  return sentence.replace(UTC_TIME, (all, day, month, year, hour, minute) => {
    const monthIndex = month === undefined ? written.getUTCMonth() : units.months.indexOf(month);
    if (monthIndex < 0) return all;
    const fullYear = year === undefined ? written.getUTCFullYear() : Number(year);
    const date = day === undefined ? written.getUTCDate() : Number(day);
    return timeText(new Date(Date.UTC(fullYear, monthIndex, date, Number(hour), Number(minute))), now);
  });
}

/**
 * Lets the countdown in one of the server's sentences (`Waiting 3:40 more`) run on; a time of day there is written `15:42 UTC`.
 * @param {string} sentence
 * @param {number} elapsedSeconds since the server wrote it
 */
export function runDown(sentence, elapsedSeconds) {
  return sentence.replace(/(?<![\d:])(?:(\d+):)?(\d+):(\d{2})(?!\d|:| UTC)/g, (_, hours, minutes, seconds) => {
    const total = Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(seconds);
    return countdownText(total - elapsedSeconds);
  });
}

/**
 * Writes what is left as a clock does: `3:40`, `1:02:05`.
 * @param {number} seconds
 */
export function countdownText(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const minutes = Math.floor(left / 60) % 60;
  return left < 3600 ? `${minutes}:${two(left % 60)}` : `${Math.floor(left / 3600)}:${two(minutes)}:${two(left % 60)}`;
}

/**
 * Makes a name or path fit to be read. Bytes that are not UTF-8 (U+EF80 to U+EFFF in the API's texts), control characters
 * and those that turn the reading direction are shown as `\uFFFD`, one for one, so that positions in the name stay right.
 * The text itself is what goes back to the API.
 * @param {string} text
 */
export function displayText(text) {
  return text.replace(/[\p{Cc}\u061C\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB\uEF80-\uEFFF\u{E0000}-\u{E007F}]/gu, '\uFFFD');
}

/**
 * Cuts a name into parts that matched a search and parts that did not.
 * @param {string} name
 * @param {[number, number][]} highlights ranges of characters (not of UTF-16 units), in order
 * @returns {{text: string, matched: boolean}[]}
 */
export function highlighted(name, highlights) {
  const characters = Array.from(displayText(name));
  const parts = [];
  let at = 0;
  for (const [start, end] of highlights) {
    if (start < at || end <= start || end > characters.length) continue;
    if (start > at) parts.push({ text: characters.slice(at, start).join(''), matched: false });
    parts.push({ text: characters.slice(start, end).join(''), matched: true });
    at = end;
  }
  if (at < characters.length) parts.push({ text: characters.slice(at).join(''), matched: false });
  return parts;
}

/**
 * Returns the folder that a path lies in; the root is the empty text.
 * @param {string} path
 */
export function parentPath(path) {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

const PROGRAMS = [
  [/\bEdgA?\//, 'Edge'], [/\bOPR\//, 'Opera'], [/\b(?:Firefox|FxiOS)\//, 'Firefox'], [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/\b(?:HeadlessChrome|Chrome|CriOS|Chromium)\//, 'Chrome'], [/\bVersion\/.*\bSafari\//, 'Safari'],
];
const SYSTEMS = [
  [/\b(?:iPhone|iPad)\b/, 'iOS'], [/\bAndroid\b/, 'Android'], [/\bWindows\b/, 'Windows'], [/\bMac OS X\b/, 'macOS'], [/\bLinux\b/, 'Linux'],
];

/**
 * Names a recipient's program by what it calls itself: `Firefox on Android`, `curl`.
 * @param {string|null|undefined} agent
 */
export function agentText(agent) {
  if (!agent) return words.share.unnamed_program;
  const find = (/** @type {any[]} */ table) => table.find(([pattern]) => pattern.test(agent))?.[1];
  const program = find(PROGRAMS);
  if (!program) return displayText(agent.split(/[/ ]/, 1)[0].slice(0, 40)) || words.share.unnamed_program;
  const system = find(SYSTEMS);
  return system ? say(words.share.program_on, { program, system }) : program;
}

/**
 * Returns the lengths of time to choose from, in seconds: round ones below the longest allowed, and that one.
 * @param {number} longest
 * @returns {number[]}
 */
export function durationChoices(longest) {
  const round = [900, 3600, 4 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400];
  return [...round.filter((seconds) => seconds < longest), longest];
}

/** Writes a number as the language does. @param {number} n */
export function numberText(n) {
  return n.toLocaleString(language);
}
