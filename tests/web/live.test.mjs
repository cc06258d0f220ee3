// The page's listener against a stream that is played by the test.
import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';

import { Live } from '../../web/owner/live.js';

/** Plays the browser's EventSource. */
class Stream extends EventTarget {
  static CLOSED = 2;
  static opened = [];
  readyState = 1;

  constructor(url) {
    super();
    this.url = url;
    Stream.opened.push(this);
  }

  close() {
    this.readyState = Stream.CLOSED;
  }

  play(name, data) {
    this.dispatchEvent(Object.assign(new Event(name), { data: JSON.stringify(data) }));
  }
}

/** A book that writes down what is done with it, and the lines that it is told of. */
const book = () => {
  const done = [];
  const made = new EventTarget();
  made.addEventListener('log', ({ detail }) => done.push(`line ${detail.seq}`));
  return Object.assign(made, { done, living: new Map(), put: (share) => done.push(share.id), load: async () => done.push('load') });
};

const settled = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  Stream.opened = [];
  globalThis.EventSource = Stream;
  globalThis.addEventListener = () => {};
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
});

test('shares are put into the book, and lines of the log are told of', async () => {
  const shares = book();
  new Live(shares, () => {}).start();
  const [stream] = Stream.opened;
  stream.play('ready', {});
  stream.play('log', { seq: 1, type: 'share.created', share: 'a' });
  stream.play('share', { id: 'a' });
  await settled();
  assert.deepEqual(shares.done, ['line 1', 'a']);
});

test('a resync reads the shares anew, and so does each connection', async () => {
  const shares = book();
  const connected = [];
  let resynced = 0;
  shares.addEventListener('resynced', () => { resynced += 1; });
  new Live(shares, (is) => connected.push(is)).start();
  Stream.opened[0].play('open', null);
  await settled();
  Stream.opened[0].play('resync', {});
  await settled();
  assert.deepEqual(shares.done, ['load', 'load']);
  assert.deepEqual(connected, [true, true]);
  assert.equal(resynced, 2);
});

test('a page that is not looked at does not listen, and asks now and then while a door is open', async (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const shares = book();
  new Live(shares, () => {}).start();
  document.hidden = true;
  document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(Stream.opened[0].readyState, Stream.CLOSED);
  const pass = async () => {
    mock.timers.tick(5000);
    await settled();
  };
  await pass();
  assert.deepEqual(shares.done, [], 'nothing is open');
  shares.living.set('a', {});
  await pass();
  await pass();
  assert.deepEqual(shares.done, ['load', 'load']);
  document.hidden = false;
  document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(Stream.opened.length, 2);
});

test('what is known may be over when the connection breaks, and when somebody looks again', async () => {
  const shares = book();
  const heard = [];
  for (const name of ['stale', 'resynced']) shares.addEventListener(name, () => heard.push(name));
  new Live(shares, () => {}).start();
  Stream.opened[0].play('open', null);
  await settled();
  Stream.opened[0].play('error', null);
  document.hidden = true;
  document.dispatchEvent(new Event('visibilitychange'));
  document.hidden = false;
  document.dispatchEvent(new Event('visibilitychange'));
  Stream.opened[1].play('open', null);
  await settled();
  assert.deepEqual(heard, ['resynced', 'stale', 'stale', 'resynced']);
});
