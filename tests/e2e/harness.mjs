// The real server, with TEST_DELIVERY=nginx a real nginx before it, and a proxy that cuts; beside them (browser.mjs, screens.mjs) a real
// Chromium and what each of its screens must hold.

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Nginx, isBehindNginx } from './nginx.mjs';
import { until } from './until.mjs';

export { Browser } from './browser.mjs';
export { axe, BUDGET, firstLoad, screen, shot, show, within } from './screens.mjs';
export { until };

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Ends all of them, whatever fails, and then fails where one did. What was never started may be among them. */
export async function stopAll(...all) {
  const ends = [];
  for (const one of all) ends.push(...await Promise.allSettled([one?.stop()]));
  const wrong = ends.find(({ status }) => status === 'rejected');
  if (wrong) throw wrong.reason;
}

/** Returns a port that nobody listens at. */
export async function freePort() {
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
    client.on('error', () => {});
    // A reset is passed on as one: by that the server cuts what was revoked.
    upstream.on('error', () => client.resetAndDestroy());
    client.on('close', () => { upstream.destroy(); this.clients.delete(client); });
    client.pipe(upstream);
    upstream.on('end', () => client.end());
    // Nobody is there: whoever asks is told so, and need not wait.
    upstream.on('error', () => client.destroy());
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
