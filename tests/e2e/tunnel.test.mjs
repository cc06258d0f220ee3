// A recipient with a browser, far away behind a slow line: through the lab's ingress and a real tailscaled (tests/lab).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import { Browser, Server, until } from './harness.mjs';
import { onlyEmbedded } from './nginx.mjs';

const SIZE = 24 * 1024 * 1024 + 99;
const RATE = 1_500_000;
/** How far what is told may be behind what passed the line, when nothing moves any more. */
const BEHIND = 128 * 1024;
/** What the line carries beside a file: the handshake, heads, and what each record and frame adds. */
const OVERHEAD = 1.02;

const binaries = path.join(import.meta.dirname, '../../target/lab/bin');
const skip = onlyEmbedded('with TUNNEL=tailscale recipients’ TLS ends in the product itself, and a server with DELIVERY=nginx refuses that')
  || (existsSync(path.join(binaries, 'lab')) ? false : 'the lab is not built (tests/lab/build)');

let lab;
let node;
let server;
let line;
let digest;

/** A line that carries so much a second towards the recipient, counts it, and can be held. */
async function slowLine(host, port) {
  const state = { passed: 0, held: false, rate: RATE };
  state.server = net.createServer({ pauseOnConnect: false }, (client) => {
    const upstream = net.connect({ host, port, highWaterMark: 16 * 1024 });
    let waiting = [];
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.on('data', (data) => upstream.write(data));
    upstream.on('data', (data) => { waiting.push(data); upstream.pause(); });
    const pass = setInterval(() => {
      let room = state.held ? 0 : state.rate / 50;
      while (room > 0 && waiting.length > 0) {
        const part = waiting[0].subarray(0, room);
        client.write(part);
        [room, state.passed] = [room - part.length, state.passed + part.length];
        if (part.length === waiting[0].length) waiting.shift();
        else waiting[0] = waiting[0].subarray(part.length);
      }
      if (waiting.length === 0) upstream.resume();
    }, 20);
    const over = () => { clearInterval(pass); client.destroy(); upstream.destroy(); };
    client.on('close', over);
    upstream.on('close', () => { if (waiting.length === 0) over(); });
  }).listen(0, '127.0.0.1');
  await once(state.server, 'listening');
  state.port = state.server.address().port;
  return state;
}

before(async () => {
  if (skip) return;
  lab = spawn(path.join(binaries, 'lab'), ['-binaries', path.join(binaries, 'current')], { stdio: ['pipe', 'pipe', 'ignore'] });
  const [said] = await once(readline.createInterface({ input: lab.stdout }), 'line');
  node = JSON.parse(said);
  const [host, port] = node.ingress['443'].split(':');
  line = await slowLine(host, Number(port));
  server = await Server.start({ TUNNEL: 'tailscale', TAILSCALE_SOCKET: node.socket, TAILSCALE_PROBE: 'off', BASE_URL: '' });
  digest = server.put('holiday film.mkv', SIZE);
});

after(async () => {
  await server?.stop();
  line?.server.close();
  lab?.stdin.end();
});

async function withBrowser(work) {
  const browser = await Browser.start(server, {
    args: [`--host-resolver-rules=MAP ${node.dns_name}:443 127.0.0.1:${line.port}`, '--ignore-certificate-errors'],
  });
  try {
    return await work(browser);
  } finally {
    await browser.stop();
  }
}

/** Looks until what is told stands still. */
async function settled(id) {
  let last = [-1, Date.now()];
  return until('it stands still', async () => {
    const { delivered_bytes: delivered } = (await server.show(id)).progress;
    if (delivered !== last[0]) last = [delivered, Date.now()];
    return Date.now() - last[1] > 2000 && [delivered];
  }).then(([delivered]) => delivered);
}

test('what is called delivered has passed the line, and little more has', { skip }, () => withBrowser(async (browser) => {
  const share = await server.share('holiday film.mkv');
  const page = await browser.open(share.url);
  const before = line.passed;
  await page.click('form button');
  let told = 0;
  while (told < SIZE / 3) {
    told = (await server.show(share.id)).progress.delivered_bytes;
    const passed = line.passed - before;
    assert.ok(told <= passed, `${told} are called delivered, and ${passed} have passed`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  line.held = true;
  told = await settled(share.id);
  const passed = line.passed - before;
  assert.ok(told <= passed && told + BEHIND >= passed / OVERHEAD, `${told} are called delivered, and ${passed} have passed`);
  console.log(`${Math.round((passed - told) / 1024)} KiB behind the line, its overhead included`);
  line.held = false;
  assert.equal(await browser.end(), 'completed');
  assert.equal(await browser.sha256('holiday film.mkv'), digest);
  const delivered = await until('it is delivered', async () => {
    const now = await server.show(share.id);
    return now.state === 'delivered' && now;
  });
  assert.deepEqual([delivered.progress.percent, delivered.progress.evidence], [100, 'confirmed']);
  await server.api('DELETE', `/shares/${share.id}`);
}));

test('a download that is cancelled in the browser is seen at once, and can be taken up again', { skip }, () => withBrowser(async (browser) => {
  const share = await server.share('holiday film.mkv');
  const page = await browser.open(share.url);
  await page.click('form button');
  await until('a tenth is there', async () => (await server.show(share.id)).progress.delivered_bytes > SIZE / 10);
  const url = await browser.cancel();
  const cancelled = Date.now();
  await until('it waits', async () => (await server.show(share.id)).state === 'waiting', 5000);
  console.log(`seen ${Date.now() - cancelled} ms after it was cancelled`);
  assert.equal(await browser.end(), 'canceled');
  line.rate = 20 * RATE;
  // As Retry does in the browser's list of downloads.
  await page.goto(url).catch(() => {});
  assert.equal(await browser.end(), 'completed');
  const done = await until('it is delivered', async () => {
    const now = await server.show(share.id);
    return now.state === 'delivered' && now;
  });
  assert.deepEqual([done.transfers, done.progress.percent], [1, 100]);
}));
