// Run with `node --test tests/web/`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bundled } from '../../web/owner/screens/spans.js';

const day = (n, more = {}) => ({ day: new Date(Date.UTC(2026, 0, n)).toISOString().slice(0, 10), made: 0, completed: 0, delivered_bytes: 0, ...more });

test('few days stand one by one', () => {
  const [one, other, ...rest] = bundled([
    day(1, { delivered_bytes: 5, closed: 4, outcomes: { completed: 3, stalled: 1 }, median_bytes_per_second: 9 }),
    day(2, { closed: 0, outcomes: {}, median_bytes_per_second: null }),
  ]);
  assert.deepEqual(rest, []);
  assert.deepEqual(one, { first: '2026-01-01', last: '2026-01-01', days: 1, deliveredBytes: 5, successPercent: 75, bytesPerSecond: 9 });
  assert.deepEqual([other.successPercent, other.bytesPerSecond], [null, null]);
});

test('many days stand by weeks that end with the last day, and nothing is lost', () => {
  const days = Array.from({ length: 365 }, (_, n) => day(n + 1, { delivered_bytes: 1, closed: 2, outcomes: { completed: n % 2 }, median_bytes_per_second: n }));
  const bundles = bundled(days);
  assert.equal(bundles.length, 53);
  assert.deepEqual([bundles[0].days, bundles[1].days, bundles.at(-1).last], [1, 7, '2026-12-31']);
  assert.equal(bundles.reduce((sum, { deliveredBytes }) => sum + deliveredBytes, 0), 365);
  assert.equal(bundles.at(-1).bytesPerSecond, 361);
  assert.equal(bundles[1].successPercent, (4 / 14) * 100);
  const [first] = bundled(days.slice(0, 102));
  assert.deepEqual([first.days, first.bytesPerSecond], [4, 1], 'of an even number a speed that was measured');
});

test('a server that does not say how a day went leaves gaps', () => {
  const [bundle] = bundled([day(1, { delivered_bytes: 3 })]);
  assert.deepEqual([bundle.successPercent, bundle.bytesPerSecond], [null, null]);
});
