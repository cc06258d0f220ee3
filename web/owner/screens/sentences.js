// What the screens say of shares and of lines of the event log, in the reader's language; `tests/web/sentences.test.mjs` holds it.

import { element } from '../../shared/dom.js';
import { durationText, localTimes, sizeText, timeText } from '../../shared/format.js';
import { timeAgo } from '../../shared/time.js';
import { say, words } from '../../shared/words.js';
import { sign, signOfOutcome } from './parts.js';

/** @typedef {import('../share-book.js').Share & {looks?: {previews: number, people: number}}} Share */
/**
 * @typedef {{seq: number, at: string, share: string, type: string, outcome?: string, expires_at?: string, end?: string,
 *   delivered_bytes?: number, duration_ms?: number|null, network?: string|null, reach?: string, why?: string,
 *   after_close?: boolean}} LogLine
 */

/** @type {Record<string, [import('./parts.js').Sign, string]>} */
const SIGNS = {
  'share.created': ['made', ''],
  'share.opened': ['door', 'is-accent'],
  'share.tunnel_lost': ['warn', 'is-warn'],
  'share.probed': ['eye', ''],
  'share.extended': ['clock', ''],
  'share.reopened': ['again', 'is-accent'],
  'share.undone': ['again', 'is-accent'],
  'share.delivered': ['good', 'is-good'],
  'share.closing': ['shut', 'is-quiet'],
  'transfer.redeemed': ['hand', ''],
  'transfer.began': ['down', 'is-accent'],
};

/**
 * Chooses the sign of a line, and the class of its colour.
 * @param {LogLine} line
 * @returns {[import('./parts.js').Sign, string]}
 */
export function signOfLine(line) {
  if (line.type === 'share.closed') return signOfOutcome(line.outcome ?? null);
  if (line.type === 'share.probed' && line.after_close && line.reach === 'yes') return ['bad', 'is-bad'];
  if (line.type === 'transfer.ended') return line.end === 'completed' ? ['good', 'is-good'] : ['warn', line.end === 'never_began' ? 'is-quiet' : 'is-warn'];
  return SIGNS[line.type] ?? ['clock', 'is-quiet'];
}

/**
 * Writes a line in the reader's language. A type that this page does not know is shown as it is called.
 * @param {LogLine} line
 * @param {Date} [now]
 */
export function lineText(line, now = new Date()) {
  const { types } = words.log;
  switch (line.type) {
    case 'share.extended':
      return say(types.share_extended, { time: line.expires_at ? timeText(new Date(line.expires_at), now) : '' });
    case 'share.closing':
    case 'share.closed':
      return say(types[line.type === 'share.closed' ? 'share_closed' : 'share_closing'], { outcome: outcomeText(line.outcome) });
    case 'share.probed': return probedText(line);
    case 'transfer.ended': return endedText(line);
    default: {
      const name = line.type.replace('.', '_');
      return Object.hasOwn(types, name) ? types[/** @type {keyof typeof types} */ (name)] : line.type;
    }
  }
}

/** @param {string|null|undefined} outcome */
export function outcomeText(outcome) {
  const { outcomes } = words.history;
  return outcome && Object.hasOwn(outcomes, outcome) ? outcomes[/** @type {keyof typeof outcomes} */ (outcome)] : outcome ?? '';
}

/** @param {LogLine} line */
function probedText({ reach, after_close: isAfterClose }) {
  const { types } = words.log;
  if (reach === 'yes') return isAfterClose ? types.probed_alarm : types.probed_yes;
  if (reach === 'no') return isAfterClose ? types.probed_shut : types.probed_no;
  return types.not_probed;
}

/** @param {LogLine} line */
function endedText({ end, delivered_bytes: bytes, duration_ms: duration, network }) {
  const { types } = words.log;
  const values = { size: sizeText(bytes ?? 0), duration: durationText(Math.round((duration ?? 0) / 1000)) };
  const isTimed = end === 'completed' && typeof duration === 'number' && duration >= 1000;
  const name = isTimed ? 'transfer_completed_in' : `transfer_${end}`;
  const text = say(Object.hasOwn(types, name) ? types[/** @type {keyof typeof types} */ (name)] : types.transfer_ended, values);
  return network ? `${text}, ${say(words.log.from_network, { network })}` : text;
}

/**
 * Makes the row of a line.
 * @param {LogLine} line
 * @param {Node} [about] whose line it is, where that is not clear
 */
export function lineRow(line, about) {
  const [name, kind] = signOfLine(line);
  return element('li', { class: 'log-line', 'data-seq': String(line.seq) },
    sign(name, kind),
    element('div', { class: 'log-text' }, element('p', {}, lineText(line)), about),
    timeAgo(line.at));
}

/**
 * Writes one of a share's sentences with its times in the reader's own zone.
 * @param {Share} share
 * @param {'state_text'|'policy_text'} name
 */
export function sentenceOf(share, name) {
  return localTimes(share[name], new Date(share.received ?? Date.now()));
}

/**
 * Says how often a share was downloaded, and apart from that who only looked.
 * @param {Pick<Share, 'transfers'|'looks'>} share
 */
export function downloadsText({ transfers, looks }) {
  const { history } = words;
  const { previews = 0, people = 0 } = looks ?? {};
  if (transfers === 0 && people === 0 && previews > 0) return say(history.previews_only, { n: previews });
  return [
    transfers > 0 ? say(history.downloads, { n: transfers }) : history.no_downloads,
    people > 0 && say(history.looks, { n: people }),
    previews > 0 && say(history.previews, { n: previews }),
  ].filter(Boolean).join(', ');
}
