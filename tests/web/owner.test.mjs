// What the owner's page says and draws, as far as it needs no browser.
process.env.TZ = 'Europe/Berlin';
import assert from 'node:assert/strict';
import { test } from 'node:test';

const { sentenceOf } = await import('../../web/owner/policy.js');
const { titleOf } = await import('../../web/owner/notices.js');
const { pointsText } = await import('../../web/owner/sparkline.js');

const NOW = new Date('2026-11-21T15:00:00Z');
const at = (minutes) => new Date(NOW.getTime() + minutes * 60_000);

test('a policy reads as one sentence', () => {
  assert.equal(sentenceOf(1, null, at(42), NOW), 'One person can download this until 16:42.');
  assert.equal(sentenceOf(3, null, at(24 * 60), NOW), '3 people can download this until 22 Nov 16:00.');
  assert.equal(sentenceOf(null, at(60), at(120), NOW), 'Everyone who has the link can download this from 17:00 until 18:00.');
});

test('the title tells how far the download is that runs, and the slowest of several', () => {
  const share = (state, percent, name = 'holiday.mkv') => ({ state, name, progress: { percent } });
  assert.equal(titleOf([], ''), 'Portcullis');
  assert.equal(titleOf([share('offered', 0)], 'History'), 'History – Portcullis');
  assert.equal(titleOf([share('offered', 0), share('transferring', 62)], ''), '62 % holiday.mkv – Portcullis');
  assert.equal(titleOf([share('waiting', 12), share('transferring', 62)], 'Log'), '12 % 2 ↓ – Log – Portcullis');
  assert.equal(titleOf([share('transferring', 1, 'a\u202Eb')], ''), '1 % a\uFFFDb – Portcullis');
});

test('the speed of the last minute is drawn from left to right, its highest at the top', () => {
  const points = [{ at: 0, value: 0 }, { at: 30_000, value: 200 }, { at: 60_000, value: 100 }];
  assert.equal(pointsText(points, 60_000), '0.0,23.0 60.0,1.0 120.0,12.0');
  assert.equal(pointsText(points.slice(1), 60_000), '0.0,1.0 120.0,12.0');
  assert.equal(pointsText([{ at: 0, value: 0 }], 0), '120.0,23.0');
});

const { reachText } = await import('../../web/owner/link-view.js');

test('a link that works nowhere else says so', () => {
  for (const here of ['http://127.0.0.1:8001/a/b', 'http://localhost/a', 'http://[::1]:8001/a']) assert.match(reachText(here), /this computer only/, here);
  for (const home of ['http://192.168.1.4:8001/a', 'http://10.0.0.2/a', 'http://172.20.0.1/a', 'http://nas:8001/a', 'http://nas.local/a', 'http://[fd00::1]/a']) {
    assert.match(reachText(home), /this network only/, home);
  }
  for (const everywhere of ['https://nas.tail1234.ts.net/a', 'https://files.example.org/get/a', 'http://172.32.0.1/a', 'http://[2001:db8::1]/a']) {
    assert.equal(reachText(everywhere), null, everywhere);
  }
});
