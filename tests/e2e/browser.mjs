// A real Chromium, driven by Playwright, that holds on every page what is promised of all of them.

import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

import { until } from './until.mjs';

/** What Chromium says in its console where a page itself was answered with 410 or 401: the tests look at that answer. */
const IS_THE_PAGES_STATUS = /^Failed to load resource: the server responded with a status of /;

/** A browser with an empty profile and its downloads in a folder of its own. */
export class Browser {
  /** Starts one for somebody who reads the language of `locale`; `args` are more arguments of Chromium's. */
  static async start(server, { args = [], locale = 'en-GB' } = {}) {
    const browser = new Browser();
    browser.folder = mkdtempSync(path.join(server.folder, 'downloads-'));
    // The profile is one on disk, not an incognito one: only there Chromium's own list of downloads can resume.
    browser.context = await chromium.launchPersistentContext(mkdtempSync(path.join(server.folder, 'profile-')), {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      locale,
      ignoreHTTPSErrors: args.includes('--ignore-certificate-errors'),
      // Chromium's own sandbox does not work for root, nor in most containers.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', ...args],
    });
    [browser.pages, browser.allowed] = [[], []];
    browser.ends = [];
    await browser.#followDownloads();
    return browser;
  }

  /** Lets Chromium keep downloads as it does for a person: under their own name, and to be resumed. */
  async #followDownloads() {
    const session = await this.context.browser().newBrowserCDPSession();
    await session.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: this.folder, eventsEnabled: true });
    session.on('Browser.downloadWillBegin', ({ guid, url }) => { this.download = { guid, url }; });
    session.on('Browser.downloadProgress', ({ state }) => { if (state !== 'inProgress') this.ends.push(state); });
    this.session = session;
  }

  /** Opens a page; `page.answer` is what it was answered with. */
  async open(url, options = {}) {
    const page = await this.page(url, options);
    page.answer = await page.goto(url, { waitUntil: 'load' });
    return page;
  }

  /**
   * Makes an empty page for what is at the origin of `url`. What goes wrong on it is kept in `page.faults`: errors of scripts and in the
   * console, what its policy refused, and requests to anybody else. `stop` fails where there are any that no `page.allow(pattern)` allows.
   */
  async page(url, { javascript = true } = {}) {
    const page = await this.context.newPage();
    [page.faults, page.allowed] = [[], []];
    page.allow = (pattern) => { page.allowed.push(pattern); };
    this.pages.push(page);
    const { origin } = new URL(url);
    page.on('pageerror', (error) => page.faults.push(`script: ${error.message}`));
    page.on('console', (message) => {
      const isStatus = IS_THE_PAGES_STATUS.test(message.text()) && message.location().url === page.url();
      if (message.type() === 'error' && !isStatus) page.faults.push(`console: ${message.text()} (${message.location().url})`);
    });
    page.on('request', (request) => {
      const to = new URL(request.url());
      // What a script holds already, it does not ask anybody for.
      const isHere = to.protocol === 'data:' || to.protocol === 'blob:';
      if (!isHere && to.origin !== origin) page.faults.push(`a request left the origin: ${request.url()}`);
    });
    if (!javascript) await (await this.context.newCDPSession(page)).send('Emulation.setScriptExecutionDisabled', { value: true });
    return page;
  }

  /** Lets every page's faults pass that look so. */
  allow(pattern) {
    this.allowed.push(pattern);
  }

  /** Waits for the one download to come to its end; returns `completed` or `canceled`. */
  async end() {
    await until('the download ends', () => this.ends.length > 0);
    return this.ends.shift();
  }

  /** Cancels the download that runs, as its button does; returns its URL. */
  async cancel() {
    const { guid, url } = this.download;
    await this.session.send('Browser.cancelDownload', { guid });
    return url;
  }

  /** Returns the names of the files that are there. */
  files() {
    return readdirSync(this.folder);
  }

  sha256(name) {
    const hash = createHash('sha256');
    return new Promise((resolve, reject) => {
      createReadStream(path.join(this.folder, name)).on('data', (data) => hash.update(data)).on('error', reject)
        .on('end', () => resolve(hash.digest('hex')));
    });
  }

  /** Presses Resume on Chromium's own page of downloads, as a person does. */
  async resume() {
    const page = await this.context.newPage();
    await page.goto('chrome://downloads');
    await until('Resume can be pressed', () => page.evaluate(() => {
      const list = document.querySelector('downloads-manager')?.shadowRoot;
      const item = list?.querySelector('downloads-item')?.shadowRoot;
      const button = item?.querySelector('#pause-or-resume');
      if (!button?.textContent.includes('Resume')) return false;
      button.click();
      return true;
    }));
  }

  /** Ends it. Fails where something went wrong on a page that its test has not allowed, also where no test looked. */
  async stop() {
    await this.context.close();
    const faults = this.pages.flatMap((page) => page.faults.filter((fault) => ![...page.allowed, ...this.allowed].some((allowed) => allowed.test(fault))));
    if (faults.length > 0) throw new Error(`on the pages went wrong:\n${faults.join('\n')}`);
  }
}
