// Puts the owner's page together: who we are, the files, the shares, and what happens to them while we look.

import { request, signInAgain } from '../shared/api.js';
import { FileBrowser } from './files.js';
import { Live } from './live.js';
import { ShareBook } from './share-book.js';
import { ShareDialog } from './share-dialog.js';
import { SharesPanel } from './shares-panel.js';

/**
 * @typedef {{auth: 'token'|'none', version: string, root: string, max_tunnel_seconds: number,
 *   defaults: {expires_in_seconds: number, max_downloads: number}}} Session
 */

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
  const dialog = new ShareDialog(session, book);
  const files = new FileBrowser(byId('list'), {
    search: byId('search'), sort: byId('sort'), trail: byId('trail'), count: byId('count'),
  }, (entry) => dialog.offer(entry));
  const panel = new SharesPanel(book, { living: byId('living'), closed: byId('closed'), history: byId('history') }, session);

  files.start();
  panel.start();
  new Live(book, showConnection).start();
}

/** The address keeps the folder, so this may not be a jump within the page. @param {Event} event */
function goToSearch(event) {
  event.preventDefault();
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
  byId('connection').textContent = connected ? '' : 'The connection to Portcullis is lost. Trying again…';
}

start().catch((error) => {
  byId('connection').textContent = error.message;
  // Whoever left the page open over a restart of the NAS finds it working again.
  setTimeout(() => location.reload(), 10_000);
});
