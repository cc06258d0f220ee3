// Run with `node --test tests/web/`. The reader's zone is this one's; the language is English where no page says another.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { absoluteText, dayStart, relativeText } from '../../web/shared/time.js';

const NOW = new Date(2026, 10, 22, 10, 30);
const before = (seconds) => relativeText(new Date(NOW.getTime() - seconds * 1000), NOW);

test('a time is said by how long ago it was', () => {
  for (const [seconds, said] of [
    [0, 'now'], [44, 'now'], [46, '1 minute ago'], [90, '2 minutes ago'], [59 * 60, '59 minutes ago'], [3600, '1 hour ago'], [9 * 3600, '9 hours ago'],
    [23 * 3600, '23 hours ago'], [-46, 'in 1 minute'], [-7200, 'in 2 hours'],
  ]) assert.equal(before(seconds), said, String(seconds));
});

test('from a day on, days of the calendar count', () => {
  const on = (...parts) => relativeText(new Date(...parts), NOW);
  assert.equal(on(2026, 10, 21, 10, 29), 'yesterday');
  assert.equal(on(2026, 10, 20, 23, 59), '2 days ago');
  assert.equal(on(2026, 10, 20, 0, 1), '2 days ago');
  assert.equal(on(2026, 10, 23, 12), 'tomorrow');
  assert.equal(on(2026, 10, 1), '3 weeks ago');
  assert.equal(on(2026, 6, 1), '4 months ago');
  assert.equal(on(2023, 6, 1), '3 years ago');
});

test('a time that no calendar has is nothing', () => {
  assert.deepEqual([relativeText(new Date('nonsense'), NOW), absoluteText(new Date('nonsense'))], ['', '']);
});

test('a day begins and ends at midnight of the reader, also where it has 23 hours', () => {
  assert.equal(dayStart('2026-11-22', 0), new Date(2026, 10, 22).toISOString());
  assert.equal(dayStart('2026-11-30', 1), new Date(2026, 11, 1).toISOString());
  assert.equal(dayStart('2026-03-29', 1), new Date(2026, 2, 30).toISOString());
  assert.deepEqual(['', 'x', '2026-1-1'].map((day) => dayStart(day, 0)), [null, null, null]);
});
