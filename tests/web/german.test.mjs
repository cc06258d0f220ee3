// The page in another language: the server writes it into the document, and everything follows.
process.env.TZ = 'Europe/Berlin';
globalThis.document = { documentElement: { lang: 'de' } };
import assert from 'node:assert/strict';
import { test } from 'node:test';

const { countdownText, dateText, durationText, localTimes, runDown, sizeText } = await import('../../web/shared/format.js');
const { language, say, words } = await import('../../web/shared/words.js');

test('sizes, times and counts are written as in German', () => {
  assert.equal(language, 'de');
  assert.equal(sizeText(1_912_345_678), '1,9 GB');
  assert.equal(durationText(5400), '1 Stunde 30 Minuten');
  assert.equal(dateText(new Date('2026-03-05T12:00:00Z'), new Date('2026-11-21T12:00:00Z')), '5. März');
  assert.equal(say(words.find.found, { n: 12345 }), '12.345 gefunden');
  assert.equal(say(words.find.found, { n: 1 }), '1 gefunden');
});

test('the server’s German times are shown in the reader’s zone, and its countdowns run', () => {
  const written = new Date('2026-11-21T15:00:00Z');
  const now = new Date('2026-11-21T15:00:00Z');
  assert.equal(localTimes('Geliefert 15:42 UTC, alle 1,9 GB. Die Tür schließt 16:42 UTC.', written, now), 'Geliefert 16:42, alle 1,9 GB. Die Tür schließt 17:42.');
  assert.equal(localTimes('Öffnet 5. März 2027 23:30 UTC.', written, now), 'Öffnet 6. März 2027 00:30.');
  assert.equal(localTimes('Öffnet 1. Dez. 10:00 UTC.', written, now), 'Öffnet 1. Dez. 11:00.');
  assert.equal(runDown('Die Gegenseite pausiert bei 62 %. Wartet noch 3:40.', 30), 'Die Gegenseite pausiert bei 62 %. Wartet noch 3:10.');
  assert.equal(runDown('Die Tür schließt 16:42 UTC. Wartet noch 1:00:10.', 11), 'Die Tür schließt 16:42 UTC. Wartet noch 59:59.');
  assert.equal(countdownText(-3), '0:00');
});
