// Both sides below a path, behind the proxies that people have: with the path left in what they ask, and taken off.
//
// The streams say something every 15 s (HEARTBEAT in src/http/owner/stream.rs and src/http/recipient/live.rs). Of these proxies nginx alone gives up an answer that
// stands still, after 60 s (proxy_read_timeout); Caddy's and Traefik's reverse proxies have no such limit by default.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { test } from 'node:test';

import { Browser, Server, freePort, until } from '../harness.mjs';
import { Proxy, TRAEFIK } from './proxy.mjs';

const SIZE = 6_000_000;
const OWNERS = 'http://nas.lan/portcullis/';
/** What Chromium says of a header that means nothing there: whoever has TLS before the owner's side has use of it. */
const IS_PLAIN_HTTP = /The Cross-Origin-Opener-Policy header has been ignored/;
const LINKS = 'https://files.example.org/get/';

/** Starts the product with a proxy before both of its sides, and browsers to whom both names lead there. */
async function behind(name, takesOff, work) {
  const [lan, world] = [await freePort(), await freePort()];
  let digest;
  const server = await Server.start({
    BASE_PATH: '/portcullis', OWNER_HOSTS: 'nas.lan', BASE_URL: LINKS, TRUSTED_PROXIES: '127.0.0.1',
  }, (empty) => { digest = empty.put('holiday film.mkv', SIZE); });
  const [browsers, proxies] = [[], []];
  let wrong;
  try {
    const options = { folder: path.join(server.folder, 'proxy'), lan, world, owner: server.owner, recipient: server.recipient, takesOff };
    proxies.push(await Proxy.start(name, options));
    const browser = async () => {
      const args = [`--host-resolver-rules=MAP nas.lan:80 127.0.0.1:${lan},MAP files.example.org:443 127.0.0.1:${world}`, '--ignore-certificate-errors'];
      const one = await Browser.start(server, { args });
      one.allow(IS_PLAIN_HTTP);
      browsers.push(one);
      return one;
    };
    await work({ server, digest, browser, world });
  } catch (error) {
    wrong = error;
  }
  // What went wrong first says more than what it left behind; all of it is ended.
  for (const one of [...browsers, ...proxies, server]) await one.stop().catch((error) => { wrong ??= error; });
  if (wrong) throw wrong;
}

/** Asks the API from a page, with an address relative to that, as the page's own scripts do. */
const ask = (page, method, address, body) => page.evaluate(async ([how, where, what]) => {
  const answer = await fetch(where, { method: how, headers: what ? { 'content-type': 'application/json' } : {}, body: what && JSON.stringify(what) });
  return { status: answer.status, location: answer.headers.get('location'), body: await answer.json() };
}, [method, address, body]);

/** Opens the stream of events in a page, and tells what came over it so far. */
async function listen(page) {
  await page.evaluate(() => {
    window.heard = [];
    window.source = new EventSource('api/v1/events/stream');
    window.source.addEventListener('ready', () => window.heard.push('ready'));
    window.source.addEventListener('share', ({ data }) => window.heard.push(data));
  });
  const heard = () => page.evaluate(() => window.heard);
  await until('the stream is open', async () => (await heard()).includes('ready'));
  return { heard, close: () => page.evaluate(() => window.source.close()) };
}

/** Returns the first piece of a recipient's stream, as it comes through the proxy. */
function firstOf(world, address) {
  return new Promise((resolve, reject) => {
    const request = https.get({
      host: '127.0.0.1', port: world, servername: 'files.example.org', headers: { host: 'files.example.org' }, path: address, rejectUnauthorized: false,
    }, (answer) => {
      answer.setEncoding('utf8').once('data', (piece) => { resolve(piece); request.destroy(); }).on('error', () => {});
      answer.once('end', () => reject(new Error(`${address} was answered with ${answer.statusCode}, and nothing came`)));
    });
    request.on('error', reject);
  });
}

for (const name of ['nginx', 'caddy', 'traefik']) {
  const skip = name === 'traefik' && !existsSync(TRAEFIK) && 'Traefik is not built (tests/e2e/proxies/build)';
  for (const takesOff of [false, true]) {
    test(`${name}, which ${takesOff ? 'takes the path off' : 'leaves the path in'}`, { skip }, () => behind(name, takesOff, async ({ server, digest, browser, world }) => {
      // Signing in, from the address as people type it; where the path is taken off that is the proxy's to mend.
      const owner = await browser();
      const page = await owner.open(takesOff ? OWNERS : OWNERS.slice(0, -1));
      assert.equal(page.url(), OWNERS);
      await page.fill('input[name=token]', server.token);
      await page.keyboard.press('Enter');
      await page.waitForSelector('#search');
      assert.equal(page.url(), OWNERS);
      const cookies = await owner.context.cookies();
      assert.deepEqual(cookies.map(({ name: its, path: below }) => [its, below]), [['portcullis_session', '/portcullis']]);

      // Finding, and sharing.
      const files = await ask(page, 'GET', 'api/v1/files?query=holiday');
      assert.deepEqual([files.status, files.body.files?.length ?? files.body.entries?.length], [200, 1], JSON.stringify(files.body));
      const stream = await listen(page);
      const made = await ask(page, 'POST', 'api/v1/shares', { path: 'holiday film.mkv' });
      assert.deepEqual([made.status, made.location], [201, `/portcullis/api/v1/shares/${made.body.id}`]);
      assert.ok(made.body.url.startsWith(LINKS), made.body.url);
      // Nothing else fills a proxy's buffer meanwhile: what it keeps back does not come.
      await until('the stream tells of it', async () => (await stream.heard()).some((line) => line.includes(made.body.id)));
      await stream.close();

      // Another browser signs in by a link.
      const { body: { url: link } } = await ask(page, 'POST', 'api/v1/session/link');
      assert.ok(link.startsWith(`${OWNERS}?token=`), link);
      const second = await (await browser()).open(link);
      assert.equal(second.url(), OWNERS);
      await second.waitForSelector('#search');

      // The recipient.
      const recipient = await browser();
      const offer = await recipient.open(made.body.url);
      await offer.click('form button');
      await until('the download begins', () => recipient.download);
      assert.ok(recipient.download.url.startsWith(`${LINKS}${made.body.id}/get/`), recipient.download.url);
      const transfer = new URL(recipient.download.url).pathname.split('/');
      assert.match(await firstOf(world, `/get/${transfer[2]}/live/${transfer[4]}`), /^event: progress\ndata: \{/);
      assert.equal(await recipient.end(), 'completed');
      assert.equal(await recipient.sha256('holiday film.mkv'), digest);
      const share = await until('it is delivered', async () => {
        const now = await server.show(made.body.id);
        return now.progress.percent === 100 && now;
      });
      assert.deepEqual([share.transfers, share.progress.evidence], [1, 'handed_over']);
      assert.equal((await ask(page, 'GET', `api/v1/shares/${made.body.id}`)).body.progress.percent, 100);
    }));
  }
}
