// The real server, with TEST_DELIVERY=nginx a real nginx before it, a proxy that cuts, and a real Chromium.

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';

import { Nginx, isBehindNginx } from './nginx.mjs';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** How long anything that is awaited may take. */
const PATIENCE_MS = 30_000;

/** Waits until `look` returns something that is true, and returns that. */
export async function until(what, look, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${patience} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, 'target');
  const file = process.env.PORTCULLIS ?? path.join(target, 'debug', 'portcullis');
  if (!existsSync(file)) throw new Error(`${file} is not built; tests/run e2e builds it`);
  return file;
}

/** A running server with a folder of its own, and a proxy before its recipient side. */
export class Server {
  /** Starts it over a folder that `fill` has filled: what comes later is found by a search only after a while. */
  static async start(settings = {}, fill = () => {}) {
    const server = new Server();
    server.folder = mkdtempSync(path.join(tmpdir(), 'portcullis-e2e-'));
    server.root = path.join(server.folder, 'nas');
    mkdirSync(server.root);
    fill(server);
    [server.owner, server.recipient] = [await freePort(), await freePort()];
    server.token = randomBytes(32).toString('hex');
    server.proxy = await CuttingProxy.before(server.recipient);
    server.log = '';
    server.settings = settings;
    if (isBehindNginx()) {
      server.nginx = new Nginx(path.join(server.folder, 'nginx'));
      server.settings = { ...server.nginx.settings(await freePort()), ...settings };
    }
    await server.#launch();
    await server.nginx?.start(binary(), server.root, server.#environment(), server.recipient, until);
    return server;
  }

  #environment() {
    return {
      PATH: '/usr/bin:/bin',
      STATE_DIR: path.join(this.folder, 'state'),
      OWNER_LISTEN: `127.0.0.1:${this.owner}`,
      RECIPIENT_LISTEN: `127.0.0.1:${this.recipient}`,
      BASE_URL: this.proxy.url,
      OWNER_TOKEN: this.token,
      DRAIN_SECONDS: '1',
      ...this.settings,
    };
  }

  async #launch() {
    this.process = spawn(binary(), ['serve', this.root], { env: this.#environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on('data', (data) => { this.log += data; });
    await until('the server answers', async () => {
      if (this.process.exitCode !== null) throw new Error(`the server ended: ${this.log}`);
      return fetch(`${this.ownerUrl}/livez`).then((answer) => answer.ok, () => false);
    });
  }

  async #kill() {
    this.process.kill('SIGKILL');
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
  }

  /** Ends it as a power cut would, lets `meanwhile` happen, and starts it again. */
  async restart(meanwhile) {
    await this.#kill();
    await meanwhile();
    await this.#launch();
  }

  get ownerUrl() {
    return `http://127.0.0.1:${this.owner}`;
  }

  /** The link that the newest start printed. */
  async signInLink() {
    return until('a sign-in link is printed', () => this.log.match(/http\S+\/\?token=[^\s"']+/g)?.at(-1));
  }

  /** Writes a file of random bytes; returns its SHA-256. */
  put(name, size) {
    const bytes = randomBytes(size);
    const file = path.join(this.root, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    return createHash('sha256').update(bytes).digest('hex');
  }

  async api(method, url, body) {
    const answer = await fetch(`${this.ownerUrl}/api/v1${url}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  share(file, policy = {}) {
    return this.api('POST', '/shares', { path: file, policy });
  }

  show(id) {
    return this.api('GET', `/shares/${id}`);
  }

  async closed(id) {
    return until(`share ${id} closes`, async () => {
      const share = await this.show(id);
      return share.state === 'closed' && share;
    });
  }

  async stop() {
    await this.#kill();
    await this.nginx?.stop();
    this.proxy.close();
    rmSync(this.folder, { recursive: true, force: true });
    if (this.log.includes('panicked at')) throw new Error(`the server panicked:\n${this.log}`);
  }
}

/** Forwards to the server; after a planned number of bytes towards clients it resets every connection, once. */
class CuttingProxy {
  static async before(port) {
    const proxy = new CuttingProxy();
    proxy.left = Infinity;
    proxy.cuts = 0;
    proxy.clients = new Set();
    proxy.server = net.createServer((client) => proxy.#serve(client, port)).listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  cutAfter(bytes) {
    this.left = bytes;
  }

  close() {
    this.server.close();
    for (const client of this.clients) client.destroy();
  }

  #serve(client, port) {
    const upstream = net.connect(port, '127.0.0.1');
    this.clients.add(client);
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.on('close', () => { upstream.destroy(); this.clients.delete(client); });
    client.pipe(upstream);
    upstream.on('end', () => client.end());
    upstream.on('data', (data) => {
      const part = data.subarray(0, Math.min(this.left, data.length));
      this.left -= part.length;
      if (this.left > 0) {
        if (!client.write(part)) {
          upstream.pause();
          client.once('drain', () => upstream.resume());
        }
        return;
      }
      this.left = Infinity;
      this.cuts += 1;
      upstream.destroy();
      // Only once the other side has these bytes does the reset come: it would throw away what was not yet sent.
      client.write(part, () => {
        for (const each of this.clients) each.resetAndDestroy();
      });
    });
  }
}

/** A browser with an empty profile and its downloads in a folder of its own. */
export class Browser {
  static async start(server, more = []) {
    const browser = new Browser();
    browser.folder = mkdtempSync(path.join(server.folder, 'downloads-'));
    browser.chromium = await puppeteer.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      // Chromium's own sandbox does not work for root, nor in most containers.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', ...more],
    });
    const session = await browser.chromium.target().createCDPSession();
    await session.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: browser.folder, eventsEnabled: true });
    browser.ends = [];
    session.on('Browser.downloadWillBegin', ({ guid, url }) => { browser.download = { guid, url }; });
    browser.session = session;
    session.on('Browser.downloadProgress', ({ state }) => { if (state !== 'inProgress') browser.ends.push(state); });
    return browser;
  }

  /** Opens a page; what goes wrong on it (script errors, what its policy refused) is kept. */
  async open(url, { javascript = true } = {}) {
    const page = await this.chromium.newPage();
    page.faults = [];
    page.on('pageerror', (error) => page.faults.push(error.message));
    page.on('console', (message) => { if (message.type() === 'error') page.faults.push(message.text()); });
    await page.setJavaScriptEnabled(javascript);
    page.answer = await page.goto(url, { waitUntil: 'load' });
    return page;
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
    const page = await this.open('chrome://downloads');
    await until('Resume can be pressed', () => page.evaluate(() => {
      const list = document.querySelector('downloads-manager')?.shadowRoot;
      const item = list?.querySelector('downloads-item')?.shadowRoot;
      const button = item?.querySelector('#pause-or-resume');
      if (!button?.textContent.includes('Resume')) return false;
      button.click();
      return true;
    }));
  }

  async stop() {
    await this.chromium.close();
  }
}
