// What a recipient with a browser meets.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Browser, Server, until } from './harness.mjs';

const SIZE = 9 * 1024 * 1024 + 4321;

/** @type {Server} */
let server;
let digest;

before(async () => {
  server = await Server.start({ GRACE_PERIOD_SECONDS: '4' });
  digest = server.put('holiday film.mkv', SIZE);
});

after(() => server.stop());

async function withBrowser(work) {
  const browser = await Browser.start(server);
  try {
    return await work(browser);
  } finally {
    await browser.stop();
  }
}

async function arrived(browser, share) {
  assert.deepEqual(browser.files(), ['holiday film.mkv']);
  assert.equal(await browser.sha256('holiday film.mkv'), digest);
  const closed = await server.closed(share.id);
  assert.deepEqual([closed.outcome, closed.transfers, closed.progress.percent], ['completed', 1, 100]);
}

for (const javascript of [true, false]) {
  test(`one press of the button downloads, with${javascript ? '' : 'out'} JavaScript`, () => withBrowser(async (browser) => {
    const share = await server.share('holiday film.mkv');
    const page = await browser.open(share.url, { javascript });
    assert.equal((await server.show(share.id)).transfers, 0, 'looking spends nothing');
    await page.click('form button');
    assert.equal(await browser.end(), 'completed');
    assert.deepEqual(page.faults, []);
    await arrived(browser, share);
  }));
}

for (const percent of [1, 50, 99]) {
  test(`a download that is cut at ${percent} % is resumed from the browser's list`, () => withBrowser(async (browser) => {
    const share = await server.share('holiday film.mkv');
    const page = await browser.open(share.url);
    server.proxy.cutAfter(Math.floor((SIZE * percent) / 100));
    const cuts = server.proxy.cuts;
    await page.click('form button');
    // Chromium calls a download that was cut `canceled` here, and offers to resume it.
    assert.equal(await browser.end(), 'canceled');
    assert.equal(server.proxy.cuts, cuts + 1);
    assert.equal((await server.show(share.id)).transfers, 1);
    await browser.resume();
    await until('the rest arrives', () => browser.files().includes('holiday film.mkv'));
    await arrived(browser, share);
  }));
}

test('the page is readable on a phone, in the dark, and says what is offered', () => withBrowser(async (browser) => {
  const share = await server.share('holiday film.mkv');
  const page = await browser.open(share.url);
  await page.setViewportSize({ width: 320, height: 640 });
  await page.emulateMedia({ colorScheme: 'dark' });
  const seen = await page.evaluate(() => {
    const body = getComputedStyle(document.body);
    const root = getComputedStyle(document.documentElement);
    const light = (color) => (color.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
    const ground = /rgba\(0, 0, 0, 0\)|transparent/.test(body.backgroundColor) ? root : body;
    return {
      text: document.body.innerText,
      overflows: document.documentElement.scrollWidth > window.innerWidth,
      button: document.querySelector('form button')?.getBoundingClientRect().height,
      isDark: light(ground.backgroundColor) < light(body.color),
      language: document.documentElement.lang,
    };
  });
  assert.match(seen.text, /holiday film\.mkv/);
  assert.match(seen.text, /9[.,]4 MB/);
  assert.equal(seen.overflows, false, 'nothing runs out of a narrow screen');
  assert.ok(seen.button >= 40, `a thumb finds the button: ${seen.button} px`);
  assert.ok(seen.isDark, 'dark where that is wished');
  assert.ok(seen.language);
  assert.deepEqual(page.faults, []);
}));

test('whoever comes second, late or after the sender closed it reads a sentence', () => withBrowser(async (browser) => {
  const read = async (url) => {
    const page = await browser.open(url);
    const text = await page.evaluate(() => document.body.innerText);
    assert.equal(await page.$('form'), null, text);
    return [page.answer.status(), text];
  };
  const taken = await server.share('holiday film.mkv');
  const page = await browser.open(taken.url);
  await page.click('form button');
  assert.equal(await browser.end(), 'completed');
  await until('the server knows that it arrived', async () => (await server.show(taken.id)).state !== 'transferring');
  const [usedStatus, used] = await read(taken.url);
  assert.deepEqual([usedStatus, /used/i.test(used)], [410, true], used);

  const revoked = await server.share('holiday film.mkv');
  await server.api('DELETE', `/shares/${revoked.id}`);
  const [revokedStatus, closed] = await read(revoked.url);
  assert.deepEqual([revokedStatus, /closed/i.test(closed)], [410, true], closed);

  const expired = await server.share('holiday film.mkv', { expires_in_seconds: 1 });
  await server.closed(expired.id);
  const [expiredStatus, late] = await read(expired.url);
  assert.deepEqual([expiredStatus, /expired/i.test(late)], [410, true], late);
  for (const text of [used, closed, late]) assert.doesNotMatch(text, /token|tunnel|JWT|404|error/i);
}));
