// Says in one sentence what a link lets people do.

import { timeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';

/**
 * @param {number|null} downloads `null`: as many as come
 * @param {Date|null} starts `null`: at once
 * @param {Date} ends
 */
export function sentenceOf(downloads, starts, ends, now = new Date()) {
  const { share } = words;
  const [once, some, any] = starts ? [share.sentence_one_from, share.sentence_some_from, share.sentence_any_from]
    : [share.sentence_one, share.sentence_some, share.sentence_any];
  const sentence = downloads === null ? any : downloads === 1 ? once : some;
  return say(sentence, { n: downloads ?? 0, end: timeText(ends, now), start: starts ? timeText(starts, now) : '' });
}

/** @param {import('./share-book.js').Share} share */
export function sentenceOfShare({ policy, expires_at: ends, state }) {
  const starts = state === 'scheduled' && policy.starts_at ? new Date(policy.starts_at) : null;
  return sentenceOf(policy.max_downloads, starts, new Date(ends));
}
