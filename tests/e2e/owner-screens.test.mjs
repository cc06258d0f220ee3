// The screens beside the files, with something to show: history, statistics, log, settings; in both languages, by axe, in pictures.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Browser, Server, screen, until } from './harness.mjs';
import { onlyEmbedded } from './nginx.mjs';

const skip = onlyEmbedded('the pages are the same whoever sends the bytes');
const MARKUP = '<img src=x onerror=document.title=1>.txt';

/** What the server's look at itself and the self-test may say: one of each kind, which no healthy machine has. */
const PLAYED = {
  check: {
    checked_at: new Date().toISOString(),
    checks: [
      { name: 'store', status: 'ok', text: 'It takes and gives.', fix: null },
      { name: 'funnel', status: 'wrong', text: 'This node may not use Funnel.', fix: 'Add the funnel node attribute in the tailnet policy.' },
      { name: 'base address', status: 'warning', text: 'Nobody outside reaches it.', fix: 'Set BASE_URL to what the world sees.' },
    ],
  },
  settings: {
    notes: [],
    settings: [
      { name: 'STALL_TIMEOUT_SECONDS', flag: '--stall-timeout-seconds', value: '60', default: '300', is_set: true, is_secret: false, by_file: null,
        origin: 'file', origin_text: '/srv/portcullis/portcullis.toml:3', help: 'No byte acknowledged for so long: stalled.', unit: 'seconds', reloads: true },
      { name: 'BASE_URL', flag: '--base-url', value: 'https://a-rather-long-name-of-a-nas.example-tailnet.ts.net/below/a/path', default: null, is_set: true,
        is_secret: false, by_file: null, origin: 'environment', origin_text: 'environment', help: 'What every link begins with.', unit: null, reloads: false },
      { name: 'JWT_SECRET', flag: '--jwt-secret-file', value: null, default: null, is_set: false, is_secret: true, by_file: null, origin: 'default',
        origin_text: 'made on first run', help: 'Signs links.', unit: null, reloads: false },
    ],
  },
  'self-test': {
    passed: false, by: 'public',
    steps: ['made', 'opened', 'page'].map((name, index) => ({
      name, duration_ms: 3 + 40 * index, ok: name !== 'page', problem: name === 'page' ? 'Nobody answers at the address that links begin with.' : null,
    })),
  },
};

/** @type {Server} */
let server;
/** @type {Browser} */
let english;
/** @type {Browser} */
let german;

before(async () => {
  if (skip) return;
  server = await Server.start({ GRACE_PERIOD_SECONDS: '1' }, (empty) => {
    for (const name of ['films/holiday 2026.mkv', 'films/clip.mp4', 'letter.pdf', 'other.pdf', MARKUP]) empty.put(name, 300_000);
  });
  for (const name of ['films/holiday 2026.mkv', 'films/clip.mp4', 'letter.pdf']) await delivered(name);
  for (const name of [MARKUP, 'other.pdf']) {
    const share = await server.share(name);
    await server.api('DELETE', `/shares/${share.id}`);
    await server.closed(share.id);
  }
  english = await Browser.start(server);
  german = await Browser.start(server, { locale: 'de-DE' });
});

after(async () => {
  await Promise.all([english?.stop(), german?.stop()]);
  await server?.stop();
});

/** Shares a file and downloads it. */
async function delivered(name) {
  const share = await server.share(name);
  await taken(share.url);
  return server.closed(share.id);
}

async function taken(url) {
  const answer = await fetch(`${url}?dl=1`);
  assert.equal(answer.status, 200);
  await answer.arrayBuffer();
}

/** Opens a screen as an owner who is signed in, with what is played in place of the server's answers. */
async function opened(browser, place, ready, played = []) {
  const page = await browser.page(server.ownerUrl);
  for (const name of played) {
    await page.route(`**/api/v1/${name}`, (route) => route.fulfill({ json: PLAYED[name] }));
  }
  await page.goto(await server.signInLink());
  await page.goto(`${server.ownerUrl}/#!${place}`);
  await page.waitForSelector(ready);
  return page;
}

/** Looks at a screen of each language: of the second, where its longer words could run out of their room. */
async function looked(place, name, ready, played) {
  for (const [browser, language, variants] of [[english, 'en', undefined], [german, 'de', ['light', 'phone', 'zoom']]]) {
    const page = await opened(browser, place, ready, played);
    assert.equal(await page.evaluate(() => document.documentElement.lang), language);
    await until('it has settled', () => page.evaluate(() => !document.querySelector('main [aria-busy="true"]')));
    await screen(page, `owner-${name}-${language}`, variants);
    await page.close();
  }
}

const texts = (page, selector) => page.locator(selector).allInnerTexts();

test('the history is found by how it ended and by name, opens to what happened, and is shared again', { skip }, async () => {
  const page = await opened(english, 'history', '.row-share');
  assert.deepEqual(await texts(page, '.disclose bdi'), ['other.pdf', MARKUP, 'letter.pdf', 'clip.mp4', 'holiday 2026.mkv']);
  await page.getByRole('link', { name: 'Delivered', exact: true }).click();
  await until('the delivered alone are shown', async () => await page.locator('.row-share').count() === 3);
  await page.getByRole('searchbox').fill('HOLI');
  await until('the one is shown', async () => await page.locator('.row-share').count() === 1);
  assert.match(page.url(), /#!history\?outcome=completed&query=HOLI$/);
  await page.getByRole('button', { name: 'holiday 2026.mkv', exact: true }).click();
  await page.waitForSelector('.details .log-line >> text=The download began');
  await page.waitForSelector('.details .transfers li');
  await page.getByRole('button', { name: 'Share again: holiday 2026.mkv' }).click();
  const link = await page.waitForSelector('.outcome-of-again input');
  await taken(await link.inputValue());
  await page.goto(`${server.ownerUrl}/#!history?query=nothing+like+it`);
  await page.waitForSelector('text=No share fits these filters.');
  await page.close();
});

test('what ends meanwhile comes into the history by itself', { skip }, async () => {
  const share = await server.share('other.pdf');
  const page = await opened(english, 'history?query=other', '.row-share');
  const shown = await page.locator('.row-share').count();
  await server.api('DELETE', `/shares/${share.id}`);
  await until('it is on the list', async () => await page.locator('.row-share').count() === shown + 1);
  await page.close();
});

test('a history that cannot be loaded says why, and comes with the next try', { skip }, async () => {
  const page = await opened(english, 'log', '.log-line');
  page.allow(/net::ERR_FAILED/);
  await page.route('**/api/v1/history*', (route) => route.abort());
  await page.goto(`${server.ownerUrl}/#!history`);
  await page.waitForSelector('[role=alert] >> text=does not answer');
  await page.unroute('**/api/v1/history*');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.waitForSelector('.row-share');
  await page.close();
});

test('statistics are read by eye, by keyboard and as a table', { skip }, async () => {
  const page = await opened(english, 'stats', '.plot .bar');
  const plot = page.locator('.plot').first();
  await plot.locator('.spot[tabindex="0"]').focus();
  const today = await plot.locator('.reading').innerText();
  assert.match(today, /: 1\.\d MB$|: \d+ kB$/);
  await page.keyboard.press('ArrowLeft');
  assert.match(await plot.locator('.reading').innerText(), /: 0 bytes$/);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), await plot.locator('.reading').innerText());
  await page.keyboard.press('End');
  assert.equal(await plot.locator('.reading').innerText(), today);
  await plot.getByText('As a table').click();
  assert.equal(await plot.locator('tbody tr').count(), 30);
  // How many of how many depends on the tests before, and how fast on the machine.
  const { days } = await server.api('GET', '/stats');
  const { closed, outcomes } = days.at(-1);
  const [rate, speed] = [page.locator('.plot', { hasText: 'Success rate' }), page.locator('.plot', { hasText: 'Median speed' })];
  await rate.locator('.spot[tabindex="0"]').focus();
  assert.ok((await rate.locator('.reading').innerText()).endsWith(`: ${Math.round((outcomes.completed / closed) * 100)} %`));
  await speed.locator('.spot[tabindex="0"]').focus();
  assert.match(await speed.locator('.reading').innerText(), /: [1-9][\d.]* \wB\/s$/);
  await page.getByRole('link', { name: '7 days' }).click();
  await until('a week is shown', async () => await page.locator('.plot').first().locator('.spot').count() === 7);
  await page.close();
});

test('the log goes on by itself, and tells who did what', { skip }, async () => {
  const page = await opened(english, 'log', '.log-line');
  const share = await server.share('other.pdf');
  await until('a line comes by itself', () => page.evaluate(() =>
    [...document.querySelectorAll('.log-line.is-new')].some((line) => line.innerText.includes('The door opened') && line.innerText.includes('other.pdf'))));
  const numbers = await page.evaluate(() => [...document.querySelectorAll('.log-line')].map((line) => Number(line.dataset.seq)));
  assert.deepEqual(numbers, Array.from(numbers, (_, index) => numbers[0] - index), 'each line once, the newest first');
  await page.getByRole('link', { name: 'Downloads', exact: true }).click();
  await until('downloads alone are shown', async () => !(await texts(page, '.log-text p')).includes('Shared'));
  await server.api('DELETE', `/shares/${share.id}`);
  await page.getByRole('link', { name: 'Who did what' }).click();
  await page.waitForSelector('.log-line >> text=Closed a share');
  await page.getByRole('button', { name: 'Is this record whole?' }).click();
  await page.waitForSelector('text=none changed and none missing');
  await page.close();
});

test('a token is made, shown once, and revoked after a question; another browser is signed out', { skip }, async () => {
  const page = await opened(english, 'settings', '#sessions .people', ['check', 'settings']);
  const api = (token) => fetch(`${server.ownerUrl}/api/v1/shares`, { headers: { authorization: `Bearer ${token}` } }).then(({ status }) => status);
  await page.getByLabel('Name').fill('backup');
  await page.getByRole('button', { name: 'Create token' }).click();
  await page.waitForSelector('#tokens .people >> text=Share and close');
  const token = await page.getByLabel('API token', { exact: true }).inputValue();
  assert.equal(await api(token), 200);
  await page.getByRole('button', { name: 'Revoke: backup' }).click();
  await page.keyboard.press('Escape');
  assert.equal(await api(token), 200, 'Escape revokes nothing');
  await page.getByRole('button', { name: 'Revoke: backup' }).click();
  await page.getByRole('button', { name: 'Revoke', exact: true }).click();
  await page.waitForSelector('text=There are no API tokens.');
  assert.equal(await api(token), 401);

  const other = await opened(german, 'log', '.log-line');
  await page.reload();
  await page.getByRole('button', { name: 'Sign out all others' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Sign out all others' }).click();
  await until('this browser is left', async () => await page.locator('#sessions .people li').count() === 1);
  other.allow(/401|ERR_ABORTED/);
  await other.reload();
  assert.ok(await other.waitForSelector('input[name=token]'), 'the other one has to sign in');
  await other.close();
  await page.close();
});

test('what is wrong stands first, with what to do; the self-test tells how long each step took', { skip }, async () => {
  const page = await opened(english, 'settings', '.checks', ['check', 'settings', 'self-test']);
  assert.deepEqual(await texts(page, '.check .status'), ['Wrong', 'Warning', 'In order']);
  await page.waitForSelector('text=1 thing is wrong.');
  await page.getByRole('button', { name: 'Run the self-test' }).click();
  await page.waitForSelector('text=The step “Page seen” went wrong');
  assert.equal(await page.locator('#self-test .rank').count(), 3);
  await page.getByRole('searchbox', { name: 'Filter the settings' }).fill('stall');
  assert.deepEqual(await texts(page, '.setting:visible h3'), ['STALL_TIMEOUT_SECONDS']);
  assert.match((await texts(page, '.setting:visible'))[0], /by the settings file \(\/srv\/portcullis\/portcullis\.toml:3\)/);
  await screen(page, 'owner-self-test-failed', ['light', 'phone-dark']);
  await page.close();
});

test('the server’s own look at itself, its settings and a self-test are shown as they are', { skip }, async () => {
  const page = await opened(english, 'settings', '.checks .check');
  await page.waitForSelector('.setting');
  assert.deepEqual(await texts(page, '.setting:has(h3 code:text-is("OWNER_TOKEN")) .value'), ['set']);
  assert.match((await texts(page, '.setting:has(h3 code:text-is("JWT_SECRET"))'))[0], /made by itself[^]*made on first run/);
  assert.equal((await texts(page, '.setting:has(h3 code:text-is("BASE_URL")) .value'))[0], server.proxy.url);
  await page.getByRole('button', { name: 'Run the self-test' }).click();
  await page.waitForSelector('#self-test .verdict >> text=/^Passed/');
  assert.equal(await page.locator('#self-test .rank').count(), 8);
  await until('it has settled', () => page.evaluate(() => !document.querySelector('main [aria-busy="true"]')));
  await page.evaluate(() => scrollTo(0, 0));
  await screen(page, 'owner-settings-real', ['light', 'phone']);
  await page.close();
});

test('all doors are closed by one button, after a question', { skip }, async () => {
  const shares = [await server.share('letter.pdf'), await server.share('other.pdf')];
  const page = await opened(english, 'settings', '#doors-section', ['check', 'settings']);
  const button = page.locator('#doors-section').getByRole('button');
  await until('the doors are known', () => button.isEnabled());
  await button.click();
  await page.waitForSelector('dialog >> text=2 doors are open.');
  await page.keyboard.press('Escape');
  for (const { id } of shares) assert.notEqual((await server.show(id)).state, 'closed', 'Escape closes nothing');
  await button.click();
  await page.locator('dialog').getByRole('button', { name: 'Close all doors' }).click();
  for (const { id } of shares) assert.equal((await server.closed(id)).outcome, 'revoked');
  // That they are closing is gone as soon as they are closed.
  await page.waitForSelector('#doors-section >> text=No door is open.');
  await page.close();
});

test('the history goes along as a table of what is shown', { skip }, async () => {
  const page = await opened(english, 'history?query=letter', '.row-share');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'CSV' }).click()]);
  assert.match(download.suggestedFilename(), /\.csv$/);
  assert.match(download.url(), /history\?query=letter&format=csv$/);
  await page.close();
});

test('whoever may only look sees no button that they may not press', { skip }, async () => {
  const page = await english.page(server.ownerUrl);
  page.allow(/403/);
  await page.route('**/api/v1/session', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ json: { ...await answer.json(), scope: 'read' } });
  });
  await page.goto(await server.signInLink());
  await page.goto(`${server.ownerUrl}/#!settings`);
  await page.waitForSelector('#all-settings');
  assert.deepEqual(await texts(page, 'main section h2'), ['All settings', 'About']);
  await page.goto(`${server.ownerUrl}/#!history`);
  await page.waitForSelector('.row-share');
  assert.equal(await page.getByRole('button', { name: /Share again/ }).count(), 0);
  await page.close();
});

for (const [place, name, ready, played] of [
  ['history', 'history', '.row-share'],
  ['history?query=nothing', 'history-empty', '.nothing'],
  ['stats', 'stats', '.plot .bar'],
  ['log', 'log', '.log-line'],
  ['log?tab=audit', 'audit', '.log-line'],
  ['settings', 'settings', '.checks', ['check', 'settings']],
]) {
  test(`the screen ${name}, in both languages`, { skip }, () => looked(place, name, ready, played));
}
