// What goes wrong on the way, with people's own browsers: two who press at once, and a server that dies.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Browser, Server, stopAll, until } from './harness.mjs';
import { isBehindNginx } from './nginx.mjs';

const SIZE = 3_000_000;
/** So slow that something can happen meanwhile; the whole takes some seconds. */
const SLOW = { max_bytes_per_second: 400_000 };

let server;
let digest;

before(async () => {
  server = await Server.start({}, (empty) => { digest = empty.put('holiday film.mkv', SIZE); });
});

after(() => stopAll(server));

async function withBrowsers(count, work) {
  const browsers = [];
  try {
    for (let n = 0; n < count; n += 1) browsers.push(await Browser.start(server));
    return await work(...browsers);
  } finally {
    await stopAll(...browsers);
  }
}

test('of two who press at the same instant one gets the file, and the other reads why not', () => withBrowsers(2, async (one, other) => {
  const share = await server.share('holiday film.mkv', SLOW);
  const pages = [await one.open(share.url), await other.open(share.url)];
  // Whoever came second is refused, which Chromium writes down.
  for (const page of pages) page.allow(/409/);
  await Promise.all(pages.map((page) => page.click('form button')));
  const winner = await until('one of them downloads', () => [one, other].find((browser) => browser.download));
  const [loser, read] = winner === one ? [other, pages[1]] : [one, pages[0]];
  await until('the other reads a sentence', () => read.evaluate(() => /one download.*running|being downloaded|used/is.test(document.body.innerText)));
  assert.equal(await winner.end(), 'completed');
  assert.equal(await winner.sha256('holiday film.mkv'), digest);
  assert.deepEqual([loser.download, loser.files()], [undefined, []]);
  assert.equal((await server.show(share.id)).transfers, 1);
}));

// What nginx has begun to send goes on without the server.
const skip = isBehindNginx() && 'nginx goes on sending';

test('a download goes on from where it was after the server was killed', { skip }, () => withBrowsers(1, async (browser) => {
  const share = await server.share('holiday film.mkv', SLOW);
  const page = await browser.open(share.url);
  // The page's own stream is cut with the server.
  page.allow(/net::ERR_/);
  await page.click('form button');
  const before = await until('a third is there', async () => {
    const { progress } = await server.show(share.id);
    return progress.delivered_bytes > SIZE / 3 && progress.delivered_bytes;
  });
  await server.restart(async () => assert.equal(await browser.end(), 'canceled'));
  const { progress, transfers } = await server.show(share.id);
  assert.ok(transfers === 1 && progress.delivered_bytes > 0, `${progress.delivered_bytes} of ${before} are known still`);
  await browser.resume();
  await until('the rest arrives', () => browser.files().includes('holiday film.mkv'));
  assert.equal(await browser.sha256('holiday film.mkv'), digest);
  const done = await until('it is delivered', async () => {
    const now = await server.show(share.id);
    return now.progress.percent === 100 && now;
  });
  assert.equal(done.transfers, 1);
}));
