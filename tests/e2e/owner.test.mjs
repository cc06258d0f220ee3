// What an owner with a browser does: sign in, find a file, share it, watch it leave, close the door.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Browser, Server, until } from './harness.mjs';

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  server = await Server.start({ GRACE_PERIOD_SECONDS: '2' }, (empty) => {
    empty.put('films/holiday 2026.mkv', 3_000_000);
    for (let n = 0; n < 40; n += 1) writeFileSync(path.join(empty.root, 'films', `clip ${n}.mp4`), 'x');
    writeFileSync(path.join(empty.root, '<img src=x onerror=document.title=1>.txt'), 'x');
  });
  browser = await Browser.start(server);
});

after(async () => {
  await browser?.stop();
  await server.stop();
});

const text = (page) => page.evaluate(() => document.body.innerText);

/** Presses the button that is called so, once it is there. */
function press(page, name, within = 'body') {
  return until(`a button “${name}”`, () => page.evaluate(([wanted, scope]) => {
    const shown = (node) => node.offsetParent !== null || getComputedStyle(node).position === 'fixed';
    const named = (node) => (node.getAttribute('aria-label') ?? node.textContent).trim();
    const buttons = [...document.querySelectorAll(`${scope} button`)].filter((node) => shown(node) && !node.disabled);
    const button = buttons.find((node) => named(node) === wanted) ?? buttons.find((node) => node.textContent.trim() === wanted);
    button?.click();
    return Boolean(button);
  }, [name, within]));
}

async function signedIn() {
  const page = await browser.open(await server.signInLink());
  assert.equal(new URL(page.url()).search, '', 'the code is gone from the address');
  return page;
}

test('a stranger is asked to sign in, and the printed link does it', async () => {
  const stranger = await browser.open(server.ownerUrl);
  assert.equal(stranger.answer.status(), 401);
  assert.ok(await stranger.$('form input[name=token]'));
  await stranger.fill('input[name=token]', server.token);
  await stranger.keyboard.press('Enter');
  await stranger.waitForSelector('#search');
  await stranger.close();
  const page = await signedIn();
  assert.ok(await page.$('#search'));
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('an owner finds a file by typing, shares it, watches it leave, and sees it close', async () => {
  const page = await signedIn();
  await page.locator('#search').pressSequentially('holiday');
  await until('the file is found', async () => (await text(page)).includes('holiday 2026.mkv'));
  await until('its row can be pressed', () => page.evaluate(() => {
    const row = [...document.querySelectorAll('#list button')].find((node) => node.textContent.includes('holiday 2026.mkv'));
    row?.click();
    return Boolean(row);
  }));
  await press(page, 'Share', 'dialog');
  const link = await until('the link is shown', () => page.evaluate(() =>
    [...document.querySelectorAll('dialog input')].map((node) => node.value).find((value) => /^https?:\/\/\S+$/.test(value))));
  assert.ok(link.startsWith(server.proxy.url), link);
  assert.ok(await page.evaluate(() => [...document.querySelectorAll('dialog img')].length > 0 || document.body.innerText.includes('QR')), 'a QR code');
  const id = new URL(link).pathname.split('/')[1];
  await press(page, 'Done', 'dialog');
  await until('the list shows it', async () => /Nobody has opened it yet/.test(await text(page)));

  const recipient = await Browser.start(server);
  try {
    const offer = await recipient.open(link);
    await offer.click('form button');
    assert.equal(await recipient.end(), 'completed');
  } finally {
    await recipient.stop();
  }
  await until('the page tells by itself that it arrived', async () => /Delivered/.test(await text(page)));
  await server.closed(id);
  await until('the door is gone from the open ones', () => page.evaluate(() => !document.querySelector('#living').innerText.includes('holiday')));
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('an owner closes a door, and it asks before it does', async () => {
  const share = await server.share('films/clip 7.mp4');
  const page = await signedIn();
  await until('it is listed', () => page.evaluate(() => document.querySelector('#living').innerText.includes('clip 7.mp4')));
  await press(page, 'Close', '#living');
  assert.notEqual((await server.show(share.id)).state, 'closed', 'one press does not close');
  await press(page, 'Close the door', '#living');
  assert.equal((await server.closed(share.id)).outcome, 'revoked');
  await until('the list follows', () => page.evaluate(() => !document.querySelector('#living').innerText.includes('clip 7.mp4')));
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('what happens elsewhere shows without a reload, and a lost connection comes back', async () => {
  const page = await signedIn();
  page.allow(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET/);
  const share = await server.share('films/clip 8.mp4');
  await until('a share made elsewhere appears', () => page.evaluate(() => document.querySelector('#living').innerText.includes('clip 8.mp4')));
  await server.api('DELETE', `/shares/${share.id}`);
  await until('and goes', () => page.evaluate(() => !document.querySelector('#living').innerText.includes('clip 8.mp4')));
  await server.restart(() => until('the page says that it lost its server', async () => /connection .* lost/.test(await text(page))));
  await server.share('films/clip 10.mp4');
  await until('it follows again', () => page.evaluate(() => document.querySelector('#living').innerText.includes('clip 10.mp4')));
  await until('and says no more that it is lost', async () => !/connection .* lost/.test(await text(page)));
  await page.close();
});

test('a name with markup in it is shown, not run', async () => {
  const page = await signedIn();
  await until('the file is listed', async () => (await text(page)).includes('<img src=x onerror='));
  assert.equal(await page.title(), 'Portcullis');
  assert.deepEqual(page.faults, []);
  await page.close();
});

test('the main job is done by keyboard alone', async () => {
  const page = await signedIn();
  await page.focus('#search');
  await page.keyboard.type('clip 9.mp4');
  await until('the file is found', () => page.evaluate(() => [...document.querySelectorAll('#list button')].some((b) => b.textContent.includes('clip 9.mp4'))));
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? '');
  for (let n = 0; n < 30 && !(await focused()).includes('clip 9.mp4'); n += 1) await page.keyboard.press('Tab');
  assert.match(await focused(), /clip 9\.mp4/);
  await page.keyboard.press('Enter');
  await until('the dialog is open', () => page.$('dialog[open]'));
  for (let n = 0; n < 30 && (await focused()).trim() !== 'Share'; n += 1) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await until('the link is shown', () => page.evaluate(() => [...document.querySelectorAll('dialog input')].some((node) => /^https?:/.test(node.value))));
  await page.keyboard.press('Escape');
  await until('Escape leaves', async () => !(await page.$('dialog[open]')));
  await page.close();
});
