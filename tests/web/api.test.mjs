// Run with `node --test tests/web/`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApiError, BASE, newKey, request } from '../../web/shared/api.js';

const answer = (status, body) => {
  globalThis.fetch = async () => new Response(body, { status });
};

test('a refusal is told in the server’s sentence', async () => {
  answer(503, JSON.stringify({ detail: 'the way in could not be opened: the port is in use', code: 'tunnel_unavailable', status: 503 }));
  await assert.rejects(request('POST', '/shares', { body: {} }), (error) =>
    error instanceof ApiError && error.message === 'The way in could not be opened: the port is in use.' && error.code === 'tunnel_unavailable');
});

test('an error page of somebody else is told as what it is', async () => {
  answer(502, '<html>Bad Gateway</html>');
  await assert.rejects(request('GET', '/files'), { message: 'The answer was 502, without a reason.', code: 'unknown' });
});

test('a server that does not answer is told so', async () => {
  globalThis.fetch = async () => { throw new TypeError('fetch failed'); };
  await assert.rejects(request('GET', '/files'), { code: 'unreachable', status: 0 });
});

test('a session that is over leads to the sign-in page', async () => {
  const gone = [];
  globalThis.location = { replace: (where) => gone.push(where) };
  answer(401, JSON.stringify({ detail: 'sign in', code: 'signed_out' }));
  await assert.rejects(request('GET', '/files'), { status: 401 });
  // Where the page stands, from the module's own place: below whatever prefix a proxy puts before both.
  assert.deepEqual(gone.map(String), [new URL('../../', new URL('../../web/shared/api.js', import.meta.url)).href]);
});

test('a request that is given up is no error of the server', async () => {
  globalThis.fetch = (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const aborter = new AbortController();
  const waiting = request('GET', '/files', { signal: aborter.signal });
  aborter.abort();
  await assert.rejects(waiting, (error) => !(error instanceof ApiError));
});

test('what is asked is sent as it is, and what is empty is left out', async () => {
  let sent;
  globalThis.fetch = async (url, options) => {
    sent = { url, ...options };
    return new Response(null, { status: 204 });
  };
  assert.equal(await request('POST', '/shares', { query: { path: 'a b&c/\uEF80', query: '', cursor: null, limit: 5 }, body: { n: 1 }, key: 'k' }), null);
  assert.equal(sent.url, `${BASE}/shares?path=a+b%26c%2F%EE%BE%80&limit=5`);
  assert.match(BASE, /[^/]\/api\/v1$/);
  assert.deepEqual([sent.body, sent.headers['content-type'], sent.headers['idempotency-key']], ['{"n":1}', 'application/json', 'k']);
});

test('no key is made twice', () => {
  assert.match(newKey(), /^[0-9a-f]{32}$/);
  assert.notEqual(newKey(), newKey());
});
