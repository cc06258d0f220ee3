// Every screen as it is looked at (light, dark, on a phone, at 200 %), by axe, and what the first of them costs over the wire.

import assert from 'node:assert/strict';
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { BUDGET, Browser, Server, firstLoad, screen, stopAll, within } from './harness.mjs';
import { onlyEmbedded } from './nginx.mjs';

const SIZE = 3_000_000;
const skip = onlyEmbedded('the pages are the same whoever sends the bytes');

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = await Server.start({ GRACE_PERIOD_SECONDS: '60' }, (empty) => {
    empty.put('films/holiday 2026.mkv', SIZE);
    for (let n = 0; n < 40; n += 1) writeFileSync(path.join(empty.root, 'films', `clip ${n}.mp4`), 'x');
    writeFileSync(path.join(empty.root, 'read me.txt'), 'x');
    // What changed a moment ago says so, which is not how files are on most days.
    const then = Date.now() / 1000 - 3 * 24 * 3600;
    for (const name of readdirSync(empty.root, { recursive: true })) utimesSync(path.join(empty.root, name), then, then);
  });
  browser = await Browser.start(server);
});

after(() => stopAll(browser, server));

test('the sign-in page', { skip }, async () => {
  const stranger = await Browser.start(server);
  try {
    const page = await stranger.open(server.ownerUrl);
    await screen(page, 'owner-sign-in');
  } finally {
    await stranger.stop();
  }
});

test('the owner’s page loads within its budget', { skip }, async (t) => {
  const load = await firstLoad(browser, await server.signInLink(), (page) => page.$('#list button'));
  t.diagnostic(`${load.bytes} bytes in ${load.parts.length} answers`);
  within(BUDGET.owner, load);
  await load.page.close();
});

test('the owner’s page: found, shared, and taken', { skip }, async () => {
  const page = await browser.open(await server.signInLink());
  await page.waitForSelector('#list .row');
  await screen(page, 'owner-find');
  await page.keyboard.type('holiday');
  const row = page.locator('#list .row').filter({ hasText: 'holiday 2026.mkv' });
  await row.waitFor();
  await screen(page, 'owner-found');
  await row.getByRole('button', { name: 'More choices' }).or(row.locator('[data-do=options]')).first().click();
  await page.locator('dialog[open]').waitFor();
  await screen(page, 'owner-choices');
  await page.keyboard.press('Escape');
  await row.locator('[data-do=share]').click();
  const card = page.locator('#living share-card');
  await card.locator('.copy-field input').first().waitFor();
  await page.locator('#toasts').locator('*').first().waitFor({ state: 'detached' });
  await screen(page, 'owner-shared');

  const [share] = (await server.api('GET', '/shares?state=living')).shares;
  const recipient = await Browser.start(server);
  try {
    const offer = await recipient.open(share.url);
    await offer.click('form button');
    await recipient.end();
  } finally {
    await recipient.stop();
  }
  await card.getByText(/^Delivered/).waitFor();
  await screen(page, 'owner-delivered');
  await server.api('DELETE', `/shares/${share.id}`);
  await page.locator('#living share-card').waitFor({ state: 'detached' });
  await screen(page, 'owner-closed');
  await page.close();
});

test('the page that describes the API', { skip }, async () => {
  const page = await browser.open(new URL('/api/docs', server.ownerUrl).href);
  await screen(page, 'owner-api', ['light', 'dark', 'phone']);
  await page.close();
});

test('the recipient’s page, and its budget', { skip }, async (t) => {
  const share = await server.share('films/holiday 2026.mkv');
  const load = await firstLoad(browser, share.url, (page) => page.$('form button'));
  t.diagnostic(`${load.bytes} bytes in ${load.parts.length} answers`);
  within(BUDGET.recipient, load);
  await screen(load.page, 'recipient-ready');
  await server.api('DELETE', `/shares/${share.id}`);
  const answer = await load.page.reload();
  assert.equal(answer.status(), 410);
  await screen(load.page, 'recipient-closed');
  await load.page.close();
});
