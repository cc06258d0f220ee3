// What a recipient with a browser meets.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Browser, screen, Server, shot, show, until } from './harness.mjs';
import { isBehindNginx } from './nginx.mjs';

const SIZE = 9 * 1024 * 1024 + 4321;
/** What the browser's console says where a connection broke. */
const LOST = /net::ERR_|Failed to load resource/;

/** @type {Server} */
let server;
let digest;

before(async () => {
  // Within it whoever was cut presses Resume, on a machine that may be busy with other things.
  server = await Server.start({ GRACE_PERIOD_SECONDS: '40' });
  digest = server.put('holiday film.mkv', SIZE);
});

after(() => server.stop());

async function withBrowser(work, options = {}) {
  const browser = await Browser.start(server, options);
  try {
    return await work(browser);
  } finally {
    await browser.stop();
  }
}

async function arrived(browser, share) {
  assert.deepEqual(browser.files(), ['holiday film.mkv']);
  assert.equal(await browser.sha256('holiday film.mkv'), digest);
  const delivered = await until('it is delivered', async () => {
    const now = await server.show(share.id);
    return now.state === 'delivered' && now;
  });
  assert.deepEqual([delivered.transfers, delivered.progress.percent], [1, 100]);
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
    page.allow(LOST);
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

/** Slow enough to be looked at: the file takes some seconds. */
const SLOW = { max_bytes_per_second: 1_500_000 };

const sentence = (page) => page.locator('h1').innerText();
const saysSoon = (page, what) => until(`the page says ${what}`, async () => what.test(await sentence(page).catch(() => '')));
const bar = (page) => page.locator('progress').evaluate((it) => it.value / it.max);

/** Shares the film, and waits until its checksum is known. */
async function shareWithChecksum(policy = {}, more = {}) {
  const share = await server.api('POST', '/shares', { path: 'holiday film.mkv', policy, ...more });
  await until('the checksum is known', async () => (await server.show(share.id)).sha256);
  return share;
}

/** Opens a link and reads its page, which offers nothing. */
async function read(browser, url) {
  const page = await browser.open(url);
  const text = await page.evaluate(() => document.body.innerText);
  assert.equal(await page.locator('form').count(), 0, text);
  assert.doesNotMatch(text, /token|tunnel|JWT|404|error/i);
  return { page, status: page.answer.status(), text };
}

test('whoever pressed the button sees their own download, and it is theirs when they come back', () => withBrowser(async (browser) => {
  const share = await shareWithChecksum(SLOW);
  const page = await browser.open(share.url);
  await page.click('form button');
  await saysSoon(page, /running/);
  assert.equal(page.url(), share.url, 'the page stayed');
  const first = await until('some has arrived', () => bar(page));
  await until('more arrives, and the page tells', async () => (await bar(page)) > first);
  assert.match(await page.locator('.line').innerText(), /^[\d.]+ [kM]B of 9\.4 MB · [\d.]+ [kM]B\/s · .* left$/);
  assert.match(await page.title(), /^\d+ % · Your download is running\.$/);
  await screen(page, 'recipient-mine');
  const before = await bar(page);
  await page.reload();
  assert.match(await sentence(page), /Your download/);
  assert.ok((await bar(page)) >= before, 'it goes on where it was');
  await withBrowser(async (another) => {
    const { status, text, page: theirs } = await read(another, share.url);
    assert.deepEqual([status, /it is running right now/.test(text)], [409, true], text);
    await screen(theirs, 'recipient-running-elsewhere');
  });
  assert.equal(await browser.end(), 'completed');
  await saysSoon(page, /^Delivered, all of it\.$/);
  await screen(page, 'recipient-delivered');
  assert.deepEqual(page.faults, []);
  await arrived(browser, share);
  const later = await read(browser, share.url);
  assert.deepEqual([later.status, /Delivered, all of it/.test(later.text)], [200, true], later.text);
}));

test('without JavaScript too they come back to their own download, and nothing more is spent', () => withBrowser(async (browser) => {
  const share = await shareWithChecksum(SLOW);
  const page = await browser.open(share.url, { javascript: false });
  await page.click('form button');
  await until('it runs', async () => (await server.show(share.id)).state === 'transferring');
  const { page: back } = await read({ open: (url) => browser.open(url, { javascript: false }) }, share.url);
  assert.match(await sentence(back), /Your download is (running|starting)/);
  await show(back, 'phone');
  await shot(back, 'recipient-mine-no-script-phone');
  const link = back.locator('main a');
  assert.match(await link.getAttribute('href'), /^\.\.\/get\/[0-9a-f]{32}\//);
  await link.click();
  assert.equal(await browser.end(), 'completed');
  // Behind nginx a limit of speed holds by one connection at a time, and which of the two waits is not ours to say.
  if (!isBehindNginx()) assert.equal(await browser.end(), 'completed');
  assert.equal(await browser.sha256('holiday film.mkv'), digest);
  assert.equal((await server.show(share.id)).transfers, 1);
}));

// What nginx has begun to send goes on without the server.
const skip = isBehindNginx() && 'nginx goes on sending';

test('a download that the end of the server cut goes on, and the page knows', { skip }, () => withBrowser(async (browser) => {
  const share = await shareWithChecksum(SLOW);
  const page = await browser.open(share.url);
  page.allow(LOST);
  await page.click('form button');
  await until('some has arrived', async () => (await page.locator('progress').count()) && bar(page));
  await server.restart(async () => {
    assert.equal(await browser.end(), 'canceled');
    await saysSoon(page, /connection is lost/);
    await screen(page, 'recipient-lost', ['phone']);
  });
  await saysSoon(page, /cut off/);
  await screen(page, 'recipient-cut-off');
  await browser.resume();
  await until('the rest arrives', () => browser.files().includes('holiday film.mkv'));
  // What was under way when it ended is vouched for by who goes on behind it, and by nothing stronger.
  await saysSoon(page, /^(Delivered|Sent), all of it\.$/);
  await arrived(browser, share);
}));

test('whose download is closed by its sender reads so at once', () => withBrowser(async (browser) => {
  const share = await server.share('holiday film.mkv', SLOW);
  const page = await browser.open(share.url);
  page.allow(LOST);
  await page.click('form button');
  await until('some has arrived', async () => (await page.locator('progress').count()) && bar(page));
  await server.api('DELETE', `/shares/${share.id}`);
  await saysSoon(page, /^The sender closed this link\.$/);
  await until('that is all the page says', async () => await page.locator('progress').count() === 0);
  assert.match(await page.evaluate(() => document.body.innerText), /ask the sender for a new link/);
  assert.equal(await browser.end(), 'canceled');
}));

test('a file is compared with the one that was sent, on the page itself', () => withBrowser(async (browser) => {
  const share = await shareWithChecksum({}, { message: 'As promised, the film of our holiday.\nLove, Ann' });
  const right = path.join(server.root, 'holiday film.mkv');
  const page = await browser.open(share.url);
  await page.locator('summary').click();
  const compare = async (file, answer) => {
    await page.locator('input[type=file]').setInputFiles(file);
    await until(`the page says ${answer}`, async () => answer.test(await page.locator('.check [role=status]').innerText()));
  };
  await screen(page, 'recipient-details');
  await compare(right, /^This is exactly the file that was sent\.$/);
  await screen(page, 'recipient-check-same', ['phone', 'dark']);
  server.put('other.mkv', SIZE);
  await compare(path.join(server.root, 'other.mkv'), /the size is right, but the content differs/);
  await screen(page, 'recipient-check-differs', ['phone', 'dark']);
  server.put('short.mkv', SIZE - 1234);
  await compare(path.join(server.root, 'short.mkv'), /: 1,234 bytes are missing\.$/);
  server.put('long.mkv', SIZE + 1);
  await compare(path.join(server.root, 'long.mkv'), /: it has 1 byte too many\.$/);
  assert.equal((await server.show(share.id)).transfers, 0, 'nothing was spent');
  assert.deepEqual(page.faults, []);
}));

test('every state has its page, which is looked at in every way', () => withBrowser(async (browser) => {
  const look = async (share, name, status, text) => {
    const found = await read(browser, share.url);
    assert.deepEqual([found.status, text.test(found.text)], [status, true], found.text);
    await screen(found.page, `recipient-${name}`);
    await found.page.close();
  };
  const taken = await server.share('holiday film.mkv');
  await withBrowser(async (first) => {
    const page = await first.open(taken.url);
    await page.click('form button');
    assert.equal(await first.end(), 'completed');
    await saysSoon(page, /Delivered/);
  });
  await look(taken, 'used', 410, /This link has been used/);

  const revoked = await server.share('holiday film.mkv');
  await server.api('DELETE', `/shares/${revoked.id}`);
  await look(revoked, 'closed-by-sender', 410, /The sender closed this link/);

  const expired = await server.share('holiday film.mkv', { expires_in_seconds: 1 });
  await server.closed(expired.id);
  await look(expired, 'expired', 410, /This link has expired/);

  server.put('report.pdf', 5000);
  const changed = await server.share('report.pdf');
  const page = await browser.open(changed.url, { javascript: false });
  server.put('report.pdf', 6000);
  await page.click('form button');
  await server.closed(changed.id);
  await look(changed, 'file-changed', 410, /The file changed at the sender’s side/);

  const later = await server.share('holiday film.mkv', { starts_at: new Date(Date.now() + 864e5).toISOString().replace(/\.\d+/, '') });
  await look(later, 'not-yet', 403, /This link is not open yet/);

  const elsewhere = await server.share('holiday film.mkv', { allowed_networks: ['203.0.113.0/24'] });
  await look(elsewhere, 'another-network', 403, /This link is for another network/);
}));

test('whoever reads German is spoken to in German', () => withBrowser(async (browser) => {
  const share = await shareWithChecksum(SLOW);
  const page = await browser.open(share.url);
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'de');
  assert.equal((await page.answer.allHeaders())['content-language'], 'de');
  assert.match(await page.evaluate(() => document.body.innerText), /9,4 MB[^]*Dieser Link gilt einmal/);
  await screen(page, 'recipient-ready-german', ['light', 'phone']);
  await page.click('form button');
  await saysSoon(page, /^Ihr Download läuft\.$/);
  assert.match(await page.locator('.line').innerText(), / von 9,4 MB/);
  assert.equal(await browser.end(), 'completed');
  await saysSoon(page, /^Angekommen, vollständig\.$/);
  await page.locator('input[type=file]').setInputFiles(path.join(server.root, 'holiday film.mkv'));
  await until('it is the same', async () => /genau die Datei/.test(await page.locator('.check [role=status]').innerText()));
  await screen(page, 'recipient-delivered-german', ['light', 'phone']);
}, { locale: 'de-DE' }));

test('a name is text, whatever stands in it', () => withBrowser(async (browser) => {
  const name = '"><img src=x onerror=alert(1)> \u{202E}fdp.🏰.pdf';
  server.put(name, 3000);
  const share = await server.share(name, SLOW);
  const page = await browser.open(share.url);
  assert.match(await sentence(page), /^"><img src=x onerror=alert\(1\)> \uFFFDfdp\.🏰\.pdf$/);
  await screen(page, 'recipient-hostile-name', ['light', 'phone']);
  await page.click('form button');
  assert.equal(await browser.end(), 'completed');
  await saysSoon(page, /Delivered/);
  assert.equal(await page.locator('img').count(), 0);
  assert.deepEqual(page.faults, []);
}));
