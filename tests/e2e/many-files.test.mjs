// A NAS with a hundred thousand files, as an owner meets it.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Browser, Server, stopAll, until } from './harness.mjs';
import { onlyEmbedded } from './nginx.mjs';

const FILES = 100_000;
/** How far the list is walked, and how many rows may be in the page at once: a few windows full, however far that is. */
const WALKED = 5000;
const MOST_ROWS = 800;
const skip = onlyEmbedded('finding is the same whoever sends the bytes');

let server;
let browser;

before(async () => {
  if (skip) return;
  server = await Server.start({}, ({ root }) => {
    mkdirSync(path.join(root, 'all'));
    for (let n = 0; n < FILES; n += 1) writeFileSync(path.join(root, 'all', `picture ${n}.jpg`), '');
  });
  browser = await Browser.start(server);
});

after(() => stopAll(browser, server));

const rows = (page) => page.locator('#list .row').count();

test('one of a hundred thousand files is found by typing, and a list of all of them is walked into', { skip }, async (t) => {
  await until('all are known', async () => {
    const { index } = await server.api('GET', '/files?query=picture');
    return !index.building && index.files === FILES;
  });
  const page = await browser.open(await server.signInLink());
  await page.waitForSelector('#list .row');
  const began = performance.now();
  await page.keyboard.type('picture 98765');
  await page.locator('#list .row').filter({ hasText: 'picture 98765.jpg' }).waitFor();
  t.diagnostic(`typed and found in ${Math.round(performance.now() - began)} ms`);
  await page.keyboard.press('Enter');
  await page.locator('#living share-card').filter({ hasText: 'picture 98765.jpg' }).waitFor();

  await page.goto(`${server.ownerUrl}/#/all`);
  await page.locator('#list').getByText('picture 0.jpg').waitFor();
  assert.ok(await rows(page) <= MOST_ROWS, `${await rows(page)} rows`);
  await until('it is walked so far', async () => {
    await page.evaluate(() => {
      for (let box = document.querySelector('#list'); box; box = box.parentElement) box.scrollTop = box.scrollHeight;
    });
    return page.locator('#list').getByText(`picture ${WALKED}.jpg`).count();
  }, 120_000);
  assert.ok(await rows(page) <= MOST_ROWS, `${await rows(page)} rows`);
  await page.close();
});
