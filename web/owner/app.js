// Puts the owner's page together: who we are, the files, the shares, the other screens, and what happens while we look.

import { request, signInAgain } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { say, words } from '../shared/words.js';
import { FileBrowser } from './files.js';
import { Live } from './live.js';
import { Notices } from './notices.js';
import { Places } from './places.js';
import { ShareBook } from './share-book.js';
import { SharesPanel } from './shares-panel.js';
import { Sharing } from './sharing.js';
import { toast } from './toast.js';

/**
 * @typedef {{auth: 'token'|'none', version: string, root: string, max_tunnel_seconds: number, scope: string, who: string,
 *   tunnel: string, defaults: {expires_in_seconds: number, max_downloads: number}}} Session
 */

/** How long after a failed start the page tries again by itself. */
const RETRY_MS = 10_000;

/** @param {string} id */
const byId = (id) => /** @type {any} */ (document.getElementById(id));

async function start() {
  /** @type {Session} */
  const session = await request('GET', '/session');
  byId('open-banner').hidden = session.auth !== 'none';
  byId('sign-out').hidden = session.auth === 'none';
  byId('sign-out').addEventListener('click', signOut);
  for (const link of document.querySelectorAll('a[href="#search"]')) link.addEventListener('click', goToSearch);

  const book = new ShareBook();
  const places = new Places({ home: byId('home'), screen: byId('screen') }, { session, book });
  /** @type {import('./share-dialog.js').ShareDialog|null} */
  let dialog = null;
  const panel = new SharesPanel(book, { living: byId('living'), closed: byId('closed'), history: byId('history') }, session);
  const sharing = new Sharing(book, (shares, copied) => panel.showLink(shares, copied));
  const files = new FileBrowser({
    list: byId('list'), search: byId('search'), filters: byId('filters'), hint: byId('search-hint'), trail: byId('trail'), count: byId('count'),
    recent: byId('recent'), bulk: byId('bulk'),
  }, {
    share: (entries, from) => sharing.now(entries, from).then((made) => made && files.clearSelection()),
    options: async (entries) => {
      // Most shares are made without it, so it is loaded when it is first asked for.
      const { ShareDialog } = await import('./share-dialog.js');
      dialog ??= new ShareDialog(session, sharing, () => files.clearSelection());
      dialog.offer(entries);
    },
  });
  showDoors(book);
  byId('close-all').addEventListener('click', () => askToCloseAll(book));

  places.start();
  files.start();
  panel.start();
  new Notices(book, () => places.title).start();
  new Live(book, showConnection).start();
}

/** Says in one sentence whether anything can be reached. It is a promise: it stands only where that is known. @param {ShareBook} book */
function showDoors(book) {
  let isKnown = false;
  const show = () => isKnown && tellDoors(book);
  for (const name of ['change', 'share']) book.addEventListener(name, show);
  book.addEventListener('resynced', () => {
    isKnown = true;
    byId('living').classList.remove('stale');
    show();
  });
  book.addEventListener('stale', () => {
    isKnown = false;
    byId('living').classList.add('stale');
    byId('doors').className = 'unknown';
    byId('doors').textContent = words.shell.doors_unknown;
  });
}

/** @param {ShareBook} book */
function tellDoors(book) {
  const doors = byId('doors');
  // One that is to open later is no way in yet.
  const open = [...book.living.values()].filter((share) => share.state !== 'scheduled').length;
  byId('close-all').hidden = open < 2;
  doors.className = open === 0 ? 'shut' : 'open';
  doors.textContent = open === 0 ? words.shell.all_shut : say(words.shell.doors_open, { n: open });
}

/** Asks once, then closes every door. @param {ShareBook} book */
function askToCloseAll(book) {
  const dialog = element('dialog', { class: 'question', 'aria-labelledby': 'question' });
  const close = element('button', { type: 'button', class: 'button danger', onclick: async () => {
    close.disabled = true;
    await book.closeAll().catch((error) => toast(error.message, { isError: true }));
    dialog.close();
  } }, words.share.close_all);
  dialog.append(element('p', { id: 'question' }, say(words.share.close_all_asks, { n: book.living.size })),
    element('div', { class: 'buttons' }, element('button', { type: 'button', class: 'button', onclick: () => dialog.close() }, words.share.keep_all_open), close));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}

/** The address keeps the folder, so this may not be a jump within the page. @param {Event} event */
function goToSearch(event) {
  event.preventDefault();
  if (location.hash.startsWith('#!')) location.hash = '#/';
  byId('search').focus({ preventScroll: true });
  byId('search').scrollIntoView();
}

async function signOut() {
  try {
    await request('DELETE', '/session');
  } finally {
    signInAgain();
  }
}

/** @param {boolean} connected */
function showConnection(connected) {
  byId('connection').textContent = connected ? '' : words.shell.lost;
  byId('connection').hidden = connected;
}

start().catch((error) => {
  byId('connection').textContent = error.message;
  byId('connection').hidden = false;
  // Whoever left the page open over a restart of the NAS finds it working again.
  setTimeout(() => location.reload(), RETRY_MS);
});
