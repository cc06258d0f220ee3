// Run with `node --test tests/web/`. The reader's zone is set before any date is made.
process.env.TZ = 'Europe/Berlin';

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  agentText, countdownText, dateText, displayText, durationChoices, durationText, highlighted, localTimes, parentPath, runDown, sizeText, timeText,
} from '../../web/shared/format.js';

const now = new Date('2026-11-21T15:50:00Z');

test('sizes are written as the server writes them', () => {
  for (const [bytes, expected] of [
    [0, '0 bytes'], [1, '1 byte'], [999, '999 bytes'], [1000, '1.0 kB'], [9949, '9.9 kB'], [9950, '10 kB'], [999_499, '999 kB'],
    [999_500, '1.0 MB'], [412_000_000, '412 MB'], [1_900_000_000, '1.9 GB'], [2.5e12, '2.5 TB'],
  ]) assert.equal(sizeText(bytes), expected);
});

test('lengths of time are written as the server writes them', () => {
  for (const [seconds, expected] of [
    [0, '0 seconds'], [1, '1 second'], [90, '1 minute 30 seconds'], [300, '5 minutes'], [5400, '1 hour 30 minutes'], [180_000, '2 days 2 hours'],
  ]) assert.equal(durationText(seconds), expected);
});

test("the server's times are shown in the reader's zone", () => {
  for (const [sentence, expected] of [
    ['Delivered 15:42 UTC, all 1.9 GB. The door closes at 16:42 UTC.', 'Delivered 16:42, all 1.9 GB. The door closes at 17:42.'],
    ['The door closes at 23:30 UTC.', 'The door closes at 22 Nov 00:30.'],
    ['You closed it at 3 Jul 15:10 UTC (38 % sent).', 'You closed it at 3 Jul 17:10 (38 % sent).'],
    ['Opens at 1 Jan 2027 08:00 UTC.', 'Opens at 1 Jan 2027 09:00.'],
    ['At 3 Foo 15:10 UTC', 'At 3 Foo 15:10 UTC'],
    ['Ready. Nobody has opened it yet.', 'Ready. Nobody has opened it yet.'],
  ]) assert.equal(localTimes(sentence, now, now), expected);
});

test('a sentence that was written yesterday keeps its day', () => {
  assert.equal(localTimes('Delivered 15:42 UTC.', new Date('2026-11-20T16:00:00Z'), now), 'Delivered 20 Nov 16:42.');
});

test('a time of another year carries its year', () => {
  assert.equal(timeText(new Date('2025-03-01T10:00:00Z'), now), '1 Mar 2025 11:00');
});

test('a time that no calendar has is left out', () => {
  assert.equal(dateText(new Date('the day before'), now), '');
});

test('a countdown runs down to zero and stays there', () => {
  const sentence = 'Paused by the other side at 62 %. Waiting 3:40 more.';
  assert.equal(runDown(sentence, 41), 'Paused by the other side at 62 %. Waiting 2:59 more.');
  assert.equal(runDown(sentence, 900), 'Paused by the other side at 62 %. Waiting 0:00 more.');
  assert.equal(runDown('Waiting 1:00:05 more.', 10), 'Waiting 59:55 more.');
  assert.equal(countdownText(3725), '1:02:05');
});

test('what is no UTF-8 and what turns the reading direction is not shown', () => {
  assert.equal(displayText('caf\uEFE9 \u202Egpj.exe\u001b[2J'), 'caf\uFFFD \uFFFDgpj.exe\uFFFD[2J');
  assert.equal(displayText('naïve 😀 日本'), 'naïve 😀 日本');
});

test('matches are counted in characters, and bad ones are left out', () => {
  assert.deepEqual(highlighted('😀abc', [[1, 3]]), [
    { text: '😀', matched: false }, { text: 'ab', matched: true }, { text: 'c', matched: false },
  ]);
  assert.deepEqual(highlighted('ab', [[1, 1], [0, 9]]), [{ text: 'ab', matched: false }]);
  assert.deepEqual(highlighted('\uEF80b', [[0, 1]]), [{ text: '\uFFFD', matched: true }, { text: 'b', matched: false }]);
});

test('the folder of a path is what stands before its last name', () => {
  for (const [path, expected] of [['', ''], ['a', ''], ['a/b', 'a'], ['a/b/c', 'a/b']]) assert.equal(parentPath(path), expected);
});

test('no choice of time is longer than allowed, and the longest is always there', () => {
  assert.deepEqual(durationChoices(3600), [900, 3600]);
  assert.deepEqual(durationChoices(60), [60]);
  assert.deepEqual(durationChoices(5400), [900, 3600, 5400]);
});

test('a program is named, not quoted', () => {
  for (const [agent, expected] of [
    ['curl/8.14.1', 'curl'],
    ['Wget/1.25.0 (linux-gnu)', 'Wget'],
    ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'Firefox on Linux'],
    ['Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36', 'Chrome on Android'],
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1', 'Safari on iOS'],
    ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0', 'Edge on Windows'],
    ['\u202Eevil/1', '\uFFFDevil'],
    ['', 'An unnamed program'],
    ['/', 'An unnamed program'],
  ]) assert.equal(agentText(agent), expected);
});
