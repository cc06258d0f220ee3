// Run with `node --test tests/web/`. The server is a table of answers; each test says what it answers.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ShareBook } from '../../web/owner/share-book.js';

const share = (id, state, more = {}) => ({ id, state, state_text: state, ...more });

/** Answers requests from a table of `METHOD /path?query` beginnings; a function is called for its answer. */
function serve(table) {
  globalThis.fetch = async (url, { method }) => {
    const wanted = `${method} ${url.slice(url.indexOf('/api/v1'))}`;
    const entry = Object.entries(table).find(([beginning]) => wanted.startsWith(beginning));
    assert.ok(entry, `nothing answers ${wanted}`);
    const answer = await (typeof entry[1] === 'function' ? entry[1](wanted) : entry[1]);
    return new Response(JSON.stringify(answer), { status: 200 });
  };
}

const page = (shares, next_cursor = null) => ({ shares, next_cursor });
const LIVING = 'GET /api/v1/shares?state=living';
const CLOSED = 'GET /api/v1/shares?state=closed';
const ids = (map) => [...map.keys()];

test('every page of the living is loaded, and the first of the closed', async () => {
  serve({
    [`${LIVING}&limit=100&cursor=b`]: page([share('c', 'offered')]),
    [LIVING]: page([share('a', 'offered'), share('b', 'waiting')], 'b'),
    [CLOSED]: page([share('z', 'closed')], 'z'),
  });
  const book = new ShareBook();
  await book.load();
  assert.deepEqual([ids(book.living), ids(book.closed), book.olderCursor], [['a', 'b', 'c'], ['z'], 'z']);
});

test('no more living shares are loaded than a page can show', async () => {
  let n = 0;
  serve({ [LIVING]: () => page(Array.from({ length: 100 }, () => share(`s${n++}`, 'offered')), 'more'), [CLOSED]: page([]) });
  const book = new ShareBook();
  await book.load();
  assert.deepEqual([book.living.size, book.hasMoreLiving], [500, true]);
});

test('a share that closes moves to the front of the history, and one that opens again moves back', () => {
  const book = new ShareBook();
  const heard = [];
  book.addEventListener('share', (event) => heard.push(event.detail.state));
  for (const state of ['offered', 'closing', 'closed']) book.put(share('a', state));
  book.put(share('b', 'closed'));
  assert.deepEqual([ids(book.living), ids(book.closed)], [[], ['b', 'a']]);
  book.put(share('a', 'opening'));
  assert.deepEqual([ids(book.living), ids(book.closed)], [['a'], ['b']]);
  assert.deepEqual(heard, ['offered', 'closing', 'closed', 'closed', 'opening']);
});

test('what the stream told while the list was on its way is not undone by the list', async () => {
  const book = new ShareBook();
  book.put(share('a', 'transferring'));
  serve({
    [LIVING]: () => {
      book.put(share('a', 'closed'));
      book.put(share('new', 'offered'));
      return page([share('a', 'transferring')]);
    },
    [CLOSED]: page([]),
  });
  await book.load();
  assert.deepEqual([ids(book.living), ids(book.closed)], [['new'], ['a']]);
});

test('a share that closes between the two lists is closed', async () => {
  serve({ [LIVING]: page([share('a', 'closing')]), [CLOSED]: page([share('a', 'closed')]) });
  const book = new ShareBook();
  await book.load();
  assert.deepEqual([ids(book.living), ids(book.closed)], [[], ['a']]);
});

test('an answer that the stream overtook is not believed', async () => {
  const book = new ShareBook();
  book.put(share('a', 'offered'));
  serve({ 'DELETE /api/v1/shares/a': () => {
    book.put(share('a', 'closed'));
    return share('a', 'closing');
  } });
  await book.close('a');
  assert.equal(book.get('a').state, 'closed');
});

test('a share that is gone when the connection comes back is not shown as open', async () => {
  const book = new ShareBook();
  book.put(share('a', 'offered'));
  serve({ [LIVING]: page([]), [CLOSED]: page([share('a', 'closed')]) });
  await book.load();
  assert.deepEqual([ids(book.living), ids(book.closed)], [[], ['a']]);
});
