// What every screen must hold, in each of the ways it is looked at; and a picture of each.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { until } from './until.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** What axe is asked to look for; nothing experimental. */
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** Where the pictures go: whoever runs the tests looks at them there. */
const folder = process.env.SCREENS ?? fileURLToPath(new URL('../../target/screens', import.meta.url));

const LAPTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
/** A laptop's page at 200 % has half the room in each direction. */
const ZOOMED = { width: LAPTOP.width / 2, height: LAPTOP.height / 2 };

/** The ways in which each screen is looked at. */
export const VARIANTS = {
  light: { colorScheme: 'light', size: LAPTOP },
  dark: { colorScheme: 'dark', size: LAPTOP },
  phone: { colorScheme: 'light', size: PHONE },
  'phone-dark': { colorScheme: 'dark', size: PHONE },
  zoom: { colorScheme: 'light', size: ZOOMED },
};

/** What a first load may take over the wire, heads included. */
export const BUDGET = { owner: 60_000, recipient: 15_000 };

/** Fails where axe finds anything on the page as it stands, however small. */
export async function axe(page, what = page.url()) {
  // The page's policy lets no script in from outside; the driver may.
  await page.evaluate(AXE);
  const found = await page.evaluate((tags) => window.axe.run(document, {
    runOnly: { type: 'tag', values: tags },
    rules: { 'target-size': { enabled: true } },
    resultTypes: ['violations'],
  }).then(({ violations }) => violations.map(({ id, impact, help, nodes }) => (
    `${id} (${impact}): ${help}\n${nodes.map(({ html, failureSummary }) => `  ${html}\n    ${failureSummary}`).join('\n')}`))), RULES);
  assert.equal(found.length, 0, `axe on ${what}:\n${found.join('\n')}`);
}

/** Takes a picture of the page as it stands. */
export async function shot(page, name) {
  mkdirSync(folder, { recursive: true });
  // What slides or fades in has arrived: a picture in between shows nothing that anybody sees.
  await page.screenshot({ path: path.join(folder, `${name}.png`), animations: 'disabled' });
}

/** Shows the page in one of the ways. */
export async function show(page, variant) {
  const { colorScheme, size } = VARIANTS[variant];
  await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
  await page.setViewportSize(size);
}

/** Fails where the page is wider than the window: nobody scrolls sideways. */
async function fits(page, what) {
  const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(width <= room, `${what} is ${width} px wide, and the window ${room}`);
}

/** Looks at a screen in every way: a picture of each, nothing that axe finds, nothing that runs out of the window. */
export async function screen(page, name, variants = Object.keys(VARIANTS)) {
  for (const variant of variants) {
    await show(page, variant);
    await shot(page, `${name}-${variant}`);
    await fits(page, `${name}-${variant}`);
    await axe(page, `${name}-${variant}`);
  }
  await show(page, 'light');
}

/**
 * Opens a page with an empty cache, and tells what came over the wire until `isReady` (which gets the page) and for as long as more
 * follows: heads and bodies, as they were sent. Returns `{ page, bytes, parts }`.
 */
export async function firstLoad(browser, url, isReady = () => true) {
  const page = await browser.page(url);
  const session = await browser.context.newCDPSession(page);
  const parts = new Map();
  let last = Date.now();
  const add = (id, change) => {
    last = Date.now();
    parts.set(id, { url: '', heads: 0, bodies: 0, whole: 0, ...parts.get(id), ...change(parts.get(id)) });
  };
  session.on('Network.requestWillBeSent', ({ requestId, request, redirectResponse }) => add(requestId, (part) => ({
    // A redirect keeps its id: what led here was sent too.
    url: request.url, before: (part?.before ?? 0) + (redirectResponse?.encodedDataLength ?? 0),
  })));
  session.on('Network.responseReceived', ({ requestId, response }) => add(requestId, () => ({ heads: response.encodedDataLength })));
  session.on('Network.dataReceived', ({ requestId, encodedDataLength }) => add(requestId, (part) => ({ bodies: (part?.bodies ?? 0) + encodedDataLength })));
  session.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => add(requestId, () => ({ whole: encodedDataLength })));
  await session.send('Network.enable');
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  await page.goto(url, { waitUntil: 'load' });
  await until('the page is ready', () => isReady(page));
  await until('nothing more comes', () => Date.now() - last > 500);
  await session.detach();
  const sizes = [...parts.values()].map((part) => ({ url: part.url, bytes: (part.before ?? 0) + Math.max(part.whole, part.heads + part.bodies) }));
  return { page, bytes: sizes.reduce((sum, { bytes }) => sum + bytes, 0), parts: sizes };
}

/** Fails where a first load took more than it may; says which parts it was made of. */
export function within(budget, { bytes, parts }) {
  const list = parts.toSorted((a, b) => b.bytes - a.bytes).map((part) => `${part.bytes} ${part.url}`);
  assert.ok(bytes > 0 && bytes <= budget, `${bytes} bytes came, and ${budget} may:\n${list.join('\n')}`);
}
