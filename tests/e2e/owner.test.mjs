// What an owner with a browser does: sign in, find a file, share it, watch it leave, close the door.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Browser, Server, stopAll, until } from './harness.mjs';

const SIZE = 3_000_000;
/** What a page meets while its server is away, and no fault of its own. */
const SERVER_IS_AWAY = /net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|INTERNET_DISCONNECTED)/;

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  server = await Server.start({ GRACE_PERIOD_SECONDS: '2' }, (empty) => {
    empty.put('films/holiday 2026.mkv', SIZE);
    for (let n = 0; n < 40; n += 1) writeFileSync(path.join(empty.root, 'films', `clip ${n}.mp4`), 'x');
    writeFileSync(path.join(empty.root, '<img src=x onerror=document.title=1>.txt'), 'x');
  });
  browser = await Browser.start(server);
  await browser.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.ownerUrl });
});

after(() => stopAll(browser, server));

async function signedIn(by = browser) {
  const page = await by.open(await server.signInLink());
  assert.equal(new URL(page.url()).search, '', 'the code is gone from the address');
  await page.waitForSelector('#list .row');
  return page;
}

/** The card of a share among the open ones. */
const card = (page, name) => page.locator('#living share-card').filter({ hasText: name });
const gone = (page, name) => until(`${name} is gone from the open ones`, async () => (await card(page, name).count()) === 0);
const copied = (page) => page.evaluate(() => navigator.clipboard.readText());
const linkOf = (page, name) => card(page, name).locator('.copy-field input').first().inputValue();

test('a stranger is asked to sign in, and the printed link does it', async () => {
  const stranger = await browser.open(server.ownerUrl);
  assert.equal(stranger.answer.status(), 401);
  await stranger.fill('input[name=token]', server.token);
  await stranger.keyboard.press('Enter');
  await stranger.waitForSelector('#search');
  await stranger.close();
  const page = await signedIn();
  await page.close();
});

test('an owner finds a file by typing, shares it by mouse, watches it leave, and sees it close', async () => {
  const page = await signedIn();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'search', 'the cursor is in the search box');
  await page.keyboard.type('holiday');
  const row = page.locator('#list .row').filter({ hasText: 'holiday 2026.mkv' });
  await row.getByRole('button', { name: 'Share holiday 2026.mkv', exact: true }).click();
  await card(page, 'holiday 2026.mkv').locator('.copy-field input').first().waitFor();
  const link = await linkOf(page, 'holiday 2026.mkv');
  assert.ok(link.startsWith(server.proxy.url), link);
  assert.equal(await copied(page), link, 'it is on the clipboard');
  assert.ok(await card(page, 'holiday 2026.mkv').locator('img[src*=qr]').evaluate((code) => code.decode().then(() => true)), 'the QR code is a picture');
  await card(page, 'holiday 2026.mkv').getByText('Ready. Nobody has opened it yet.').waitFor();

  const recipient = await Browser.start(server);
  try {
    const offer = await recipient.open(link);
    await offer.click('form button');
    assert.equal(await recipient.end(), 'completed');
  } finally {
    await recipient.stop();
  }
  const id = new URL(link).pathname.split('/')[1];
  assert.equal((await server.closed(id)).outcome, 'completed');
  await gone(page, 'holiday 2026.mkv');
  await page.locator('#closed').filter({ hasText: 'holiday 2026.mkv' }).waitFor({ state: 'attached' });
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('the main job is done by keyboard alone: three letters and Enter', async () => {
  const page = await signedIn();
  await page.keyboard.type('p 9');
  await page.keyboard.press('Enter');
  await card(page, 'clip 9.mp4').waitFor();
  const link = await until('the link is copied', async () => (await copied(page)).startsWith(server.proxy.url) && copied(page));
  assert.equal((await server.show(new URL(link).pathname.split('/')[1])).name, 'clip 9.mp4');

  // Two at once: down into the list, one by Space, the next by Space, and Enter.
  await page.keyboard.press('Control+A');
  await page.keyboard.type('clip 3');
  await until('only what fits is listed', () => page.evaluate(() => [...document.querySelectorAll('#list .row')].every((row) => row.textContent.includes('clip'))));
  await page.keyboard.press('ArrowDown');
  await until('a row has the focus', () => page.evaluate(() => document.activeElement.matches('#list input')));
  await page.keyboard.press('Space');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  const links = await until('both links are copied', async () => {
    const lines = (await copied(page)).split('\n');
    return lines.length === 2 && lines;
  });
  assert.equal(new Set(links).size, 2);
  for (const each of [link, ...links]) await server.api('DELETE', `/shares/${new URL(each).pathname.split('/')[1]}`);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('a key that is pressed twice makes one share, and a row shares itself and not what was selected elsewhere', async () => {
  const page = await signedIn();
  const living = async () => (await server.api('GET', '/shares?state=living')).shares.map((share) => share.name).sort();
  await page.fill('#search', 'clip 21');
  await until('it is found', async () => (await page.locator('#list .row').count()) > 0);
  await page.focus('#search');
  for (let n = 0; n < 3; n += 1) await page.keyboard.press('Enter');
  await card(page, 'clip 21.mp4').waitFor();
  await page.keyboard.press('ArrowDown');
  await until('the row has the focus', () => page.evaluate(() => document.activeElement.matches('#list input')));
  await page.keyboard.press('Space');
  await page.getByText('1 file selected: clip 21.mp4').waitFor();
  await page.fill('#search', 'clip 22');
  await until('another is found', async () => /clip 22/.test(await page.locator('#list .row').first().textContent()));
  await page.focus('#search');
  await page.keyboard.press('ArrowDown');
  await until('its row has the focus', () => page.evaluate(() => /clip 22/.test(document.activeElement.closest('.row')?.textContent)));
  await page.keyboard.press('Enter');
  await card(page, 'clip 22.mp4').waitFor();
  assert.deepEqual(await living(), ['clip 21.mp4', 'clip 22.mp4']);
  await server.api('DELETE', '/shares');
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('a door that nobody went through closes at once, and opens again with the same link', async () => {
  const share = await server.share('films/clip 7.mp4');
  const page = await signedIn();
  await card(page, 'clip 7.mp4').getByRole('button', { name: 'Close', exact: true }).click();
  await gone(page, 'clip 7.mp4');
  assert.equal((await server.closed(share.id)).outcome, 'revoked');
  await page.locator('#toasts').getByRole('button', { name: 'Undo' }).click();
  await card(page, 'clip 7.mp4').waitFor();
  assert.equal((await server.show(share.id)).url, share.url);
  await card(page, 'clip 7.mp4').getByRole('button', { name: 'Close', exact: true }).click();
  await gone(page, 'clip 7.mp4');
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('a download that runs is cut by the owner, who is asked first', async () => {
  const share = await server.share('films/holiday 2026.mkv', { max_bytes_per_second: 100_000 });
  const page = await signedIn();
  const recipient = await Browser.start(server);
  try {
    const offer = await recipient.open(share.url);
    await offer.click('form button');
    await until('some of it has arrived', async () => (await server.show(share.id)).progress.delivered_bytes > 0);
    await card(page, 'holiday').getByRole('progressbar').waitFor();
    await card(page, 'holiday').getByRole('button', { name: 'Close', exact: true }).click();
    assert.notEqual((await server.show(share.id)).state, 'closed', 'one press does not close');
    await card(page, 'holiday').getByRole('button', { name: 'Close the door' }).click();
    assert.equal(await recipient.end(), 'canceled');
    const closed = await server.closed(share.id);
    assert.deepEqual([closed.outcome, closed.progress.percent < 100], ['revoked', true]);
    await gone(page, 'holiday');
    const late = await offer.goto(share.url);
    assert.equal(late.status(), 410);
  } finally {
    await recipient.stop();
  }
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('what happens elsewhere shows without a reload, and a lost connection comes back', async () => {
  const page = await signedIn();
  page.allow(SERVER_IS_AWAY);
  const share = await server.share('films/clip 8.mp4');
  await card(page, 'clip 8.mp4').waitFor();
  await server.api('DELETE', `/shares/${share.id}`);
  await gone(page, 'clip 8.mp4');
  const lost = page.locator('#connection').filter({ hasText: /connection .* lost/ });
  await server.restart(() => lost.waitFor());
  await server.share('films/clip 10.mp4');
  await card(page, 'clip 10.mp4').waitFor();
  await lost.waitFor({ state: 'hidden' });
  await page.close();
});

test('a machine that was offline follows again by itself', async () => {
  const away = await Browser.start(server);
  try {
    const page = await signedIn(away);
    page.allow(SERVER_IS_AWAY);
    await away.context.setOffline(true);
    await page.locator('#connection').filter({ hasText: /connection .* lost/ }).waitFor();
    await server.share('films/clip 11.mp4');
    await away.context.setOffline(false);
    await card(page, 'clip 11.mp4').waitFor();
    await page.locator('#connection').waitFor({ state: 'hidden' });
  } finally {
    await away.stop();
  }
});

test('a name with markup in it is shown, not run', async () => {
  const page = await signedIn();
  await page.locator('#list').getByText('<img src=x onerror=').waitFor();
  assert.doesNotMatch(await page.title(), /^1/);
  assert.equal(await page.locator('#list img').count(), 0);
  assert.deepEqual(page.faults, []);
  await page.close();
});
