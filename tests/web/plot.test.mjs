// Run with `node --test tests/web/`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { roundTicks } from '../../web/shared/plot.js';

test('an axis has round ticks from nothing to above the highest value', () => {
  for (const [highest, ticks] of [
    [0, [0, 1]], [NaN, [0, 1]], [1, [0, 0.5, 1]], [3, [0, 1, 2, 3]], [4, [0, 1, 2, 3, 4]], [7, [0, 2, 4, 6, 8]], [100, [0, 50, 100]],
    [0.7, [0, 0.2, 0.4, 0.6, 0.8]], [3.96e9, [0, 1e9, 2e9, 3e9, 4e9]],
  ]) assert.deepEqual(roundTicks(highest), ticks, String(highest));
});

test('whatever the highest value is, the axis reaches it with few ticks', () => {
  for (let highest = 1e-3; highest < 1e18; highest *= 1.37) {
    const ticks = roundTicks(highest);
    const top = ticks.at(-1);
    assert.ok(top >= highest * (1 - 1e-9) && top <= highest * 2 + 1e-12 && ticks.length >= 3 && ticks.length <= 6, `${highest}: ${ticks}`);
  }
});
