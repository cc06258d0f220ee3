// Run with `node --test tests/web/`. The language is English where no page says another.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { downloadsText, lineText, outcomeText, sentenceOf, signOfLine } from '../../web/owner/screens/sentences.js';

const line = (type, more = {}) => ({ seq: 1, at: '2026-11-22T10:00:00Z', share: '0000000000', type, ...more });

test('each kind of line is a sentence', () => {
  const now = new Date(2026, 10, 22, 9, 0);
  for (const [given, text] of [
    [line('share.created'), 'Shared'],
    [line('share.tunnel_lost'), 'The way in was lost and is being opened again'],
    [line('share.extended', { expires_at: new Date(2026, 10, 22, 12, 5).toISOString() }), 'More time, until 12:05'],
    [line('share.closed', { outcome: 'revoked' }), 'The door is shut: Closed by you'],
    [line('share.closing', { outcome: 'unheard_of' }), 'The door is closing: unheard_of'],
    [line('share.probed', { reach: 'yes', after_close: false }), 'Looked at from the internet: whoever has the link gets in'],
    [line('share.probed', { reach: 'yes', after_close: true }), 'Looked at from the internet after closing: the door still answers!'],
    [line('share.probed', { reach: 'no', why: 'name_unknown', after_close: true }), 'Looked at from the internet after closing: nobody gets in'],
    [line('share.probed', { reach: 'not_probed', why: 'off', after_close: false }), 'Nobody looked from the internet'],
    [line('transfer.ended', { end: 'completed', delivered_bytes: 3_000_000, duration_ms: 61_000, network: '203.0.113.0/24' }),
      'A download arrived: all 3.0 MB in 1 minute 1 second, to 203.0.113.0/24'],
    [line('transfer.ended', { end: 'completed', delivered_bytes: 20, duration_ms: 3 }), 'A download arrived: all 20 bytes'],
    [line('transfer.ended', { end: 'stalled', delivered_bytes: 5000, duration_ms: null }), 'A download stalled after 5.0 kB'],
    [line('transfer.ended', { end: 'unheard_of', delivered_bytes: 1 }), 'A download ended after 1 byte'],
    [line('share.unheard_of'), 'share.unheard_of'],
    [line('toString'), 'toString'],
  ]) assert.equal(lineText(given, now), text);
});

test('a door that still answers is told by another sign than one that is shut', () => {
  assert.deepEqual(signOfLine(line('share.probed', { reach: 'yes', after_close: true })), ['bad', 'is-bad']);
  assert.deepEqual(signOfLine(line('share.closed', { outcome: 'completed' })), ['good', 'is-good']);
  assert.notDeepEqual(signOfLine(line('transfer.ended', { end: 'cut' })), signOfLine(line('transfer.ended', { end: 'completed' })));
});

test('an outcome that this page does not know is shown as it is called', () => {
  assert.deepEqual(['timed_out', 'odd', null, 'constructor'].map(outcomeText), ['Out of time', 'odd', '', 'constructor']);
});

test('those who only looked are counted apart from downloads', () => {
  for (const [given, text] of [
    [{ transfers: 0 }, 'Nobody downloaded it'],
    [{ transfers: 0, looks: { previews: 3, people: 0 } }, '3 previews looked, nobody took it'],
    [{ transfers: 0, looks: { previews: 1, people: 2 } }, 'Nobody downloaded it, opened 2 times by people, 1 preview looked'],
    [{ transfers: 2, looks: { previews: 0, people: 0 } }, '2 downloads'],
    [{ transfers: 1, looks: { previews: 2, people: 0 } }, '1 download, 2 previews looked'],
  ]) assert.equal(downloadsText(given), text);
});

test('times in a sentence are shown in the zone of the reader', () => {
  const received = Date.UTC(2026, 10, 22, 12);
  const at = new Date(Date.UTC(2026, 10, 22, 15, 42));
  const clock = `${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`;
  assert.ok(sentenceOf({ state_text: 'You closed the door at 15:42 UTC.', received }, 'state_text').endsWith(`${clock}.`));
});
