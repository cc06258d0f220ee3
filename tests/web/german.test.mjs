// The page in another language: the server writes it into the document, and everything follows.
process.env.TZ = 'Europe/Berlin';
globalThis.document = { documentElement: { lang: 'de' } };
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
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

test('every setting and every refusal has its German words', async () => {
  const { errors, settings } = (await import('../../web/words/help.de.js')).default;
  const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
  const names = [...read('env.example').matchAll(/^# ([A-Z_]+)=/gm)].map(([, name]) => name).filter((name) => !name.endsWith('_FILE') || name === 'CONFIG_FILE');
  assert.deepEqual(Object.keys(settings).sort(), names.sort());
  const sources = readdirSync(new URL('../../src/http', import.meta.url), { recursive: true }).filter((path) => path.endsWith('.rs') && !path.includes('tests'));
  const refusal = /(?:Problem|Self)::(?:not_found|unprocessable|bad_request|conflict)\(\s*"([a-z_]+)"|StatusCode::[A-Z_]+,\s*"([a-z_]+)"|unavailable\("([a-z_]+)"\)/g;
  const codes = new Set(sources.flatMap((path) => [...read(`src/http/${path}`).matchAll(refusal)].map((found) => found[1] ?? found[2] ?? found[3])));
  assert.ok(codes.size > 25, `${codes.size} are found`);
  assert.deepEqual([...codes].filter((code) => !Object.hasOwn(errors, code)), []);
});

test('a refusal is told in German by its code, with the server’s own words where they say more', async () => {
  const { request } = await import('../../web/shared/api.js');
  const refuse = (status, problem) => { globalThis.fetch = async () => new Response(JSON.stringify(problem), { status }); };
  refuse(503, { code: 'tunnel_unavailable', detail: 'the port is in use' });
  await assert.rejects(request('POST', '/shares'), { message: 'Die Tür ließ sich nicht öffnen. (the port is in use)', code: 'tunnel_unavailable' });
  refuse(404, { code: 'unknown_file', detail: 'There is no file a.' });
  await assert.rejects(request('GET', '/files/a'), { message: 'Diese Datei gibt es nicht (mehr).' });
  refuse(418, { code: 'toString', detail: 'something else' });
  await assert.rejects(request('GET', '/files/a'), { message: 'Something else.' });
});

test('what is refused among several is told in German, too', async () => {
  const { refusal } = await import('../../web/shared/api.js');
  const { message, code, status } = await refusal({ code: 'is_folder', detail: 'This is a folder.' }, 422);
  assert.deepEqual([message, code, status], ['Das ist ein Ordner. Geteilt werden einzelne Dateien.', 'is_folder', 422]);
});
