// What the recipient's page finds out by itself: whether a file is the one that was sent.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';

import { Sha256 } from '../../web/recipient/sha256.js';
import { fill, verdict } from '../../web/recipient/verdict.js';

const expected = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** The digest of bytes that come in pieces of these lengths, over and over. */
function inPieces(bytes, lengths) {
  const hash = new Sha256();
  for (let at = 0, n = 0; at < bytes.length; n += 1) {
    const end = Math.min(bytes.length, at + lengths[n % lengths.length]);
    hash.add(bytes.subarray(at, end));
    at = end;
  }
  return hash.hex();
}

test('the digest is that of node, for every length around the ends of blocks and however it comes', () => {
  const bytes = new Uint8Array(randomBytes(1000));
  for (let length = 0; length <= 300; length += 1) {
    const part = bytes.subarray(0, length);
    for (const lengths of [[1], [7], [63], [64], [65], [1000], [1, 64, 3, 130]]) {
      assert.equal(inPieces(part, lengths), expected(part), `${length} bytes in pieces of ${lengths}`);
    }
  }
  const large = new Uint8Array(randomBytes(3_000_001));
  for (const lengths of [[65536], [1_000_003], [10_000, 64, 1]]) assert.equal(inPieces(large, lengths), expected(large));
});

test('bytes in the middle of a buffer are those that count, and empty pieces change nothing', () => {
  const buffer = randomBytes(500);
  const hash = new Sha256();
  for (const part of [buffer.subarray(13, 13), buffer.subarray(13, 100), buffer.subarray(100, 100), buffer.subarray(100, 491)]) hash.add(part);
  assert.equal(hash.hex(), expected(buffer.subarray(13, 491)));
});

test('a length whose bits need more than 32 of them is written as it is', () => {
  // As if 512 MiB and 3 bytes had come: the end of the last block says 2^32 + 24 bits.
  const hash = new Sha256();
  hash.add(new Uint8Array([97, 98, 99]));
  hash.length += 536870912;
  let end = new Uint8Array(0);
  const compress = hash.compress.bind(hash);
  hash.compress = (view, from, to) => {
    end = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(-8);
    compress(view, from, to);
  };
  hash.hex();
  assert.deepEqual([...end], [0, 0, 0, 1, 0, 0, 0, 24]);
});

const never = new AbortController().signal;

test('a file is the one that was sent, or it is said what is wrong with it', async () => {
  const bytes = randomBytes(200_000);
  const sent = { sha256: expected(bytes), size: bytes.length };
  const told = [];
  const compare = (parts) => verdict(new Blob(parts), sent, (share) => told.push(share), never);
  assert.equal(await compare([bytes]), 'same');
  assert.equal(told.at(-1), 1);
  assert.ok(told.every((share, at) => at === 0 || share > told[at - 1]), `it only grows: ${told}`);
  told.length = 0;
  assert.equal(await compare([bytes.subarray(1)]), 'missing');
  assert.equal(await compare([bytes, 'x']), 'tooLong');
  assert.equal(told.length, 0, 'of another length, it is not read at all');
  const other = Buffer.from(bytes);
  other[199_999] ^= 1;
  assert.equal(await compare([other]), 'differs');
  assert.equal(await verdict(new Blob([]), { sha256: expected(''), size: 0 }, () => {}, never), 'same');
});

test('memory holds a piece at a time, and who cancels ends the reading', async () => {
  const cancel = new AbortController();
  let [pulled, ended] = [0, false];
  const endless = {
    size: 1e15,
    stream: () => new ReadableStream({
      pull(controller) {
        pulled += 1;
        if (pulled === 5) cancel.abort();
        controller.enqueue(new Uint8Array(65536));
      },
      cancel() { ended = true; },
    }),
  };
  assert.equal(await verdict(endless, { sha256: '', size: 1e15 }, () => {}, cancel.signal), 'cancelled');
  assert.ok(pulled <= 7, `${pulled} pieces were read ahead`);
  assert.ok(ended);
});

test('a file that cannot be read any more says so', async () => {
  const gone = { size: 3, stream: () => new ReadableStream({ pull(controller) { controller.error(new Error('gone')); } }) };
  assert.equal(await verdict(gone, { sha256: '', size: 3 }, () => {}, never), 'unreadable');
});

test('a number is written as the language does, in the form that is for it', () => {
  const text = '{n} byte is missing|{n} bytes are missing';
  assert.equal(fill(text, 'n', 1, 'en'), '1 byte is missing');
  assert.equal(fill(text, 'n', 1234567, 'en'), '1,234,567 bytes are missing');
  assert.equal(fill(text, 'n', 1234567, 'de'), '1.234.567 bytes are missing');
  assert.equal(fill('{percent} %', 'percent', 1, 'en'), '1 %');
  assert.equal(fill('the content differs', 'n', 0, 'en'), 'the content differs');
});
