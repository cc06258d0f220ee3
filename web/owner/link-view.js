// What an owner hands on: the link, its QR code, the line for a terminal, and the ways to send it.

import { BASE } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { displayText, sizeText } from '../shared/format.js';
import { language, say, words } from '../shared/words.js';
import { copyField } from './copy-field.js';

/**
 * Shows a share's link; where it has none (its door is being opened), says so.
 * @param {import('./share-book.js').Share} share
 */
export function linkView(share) {
  const { url } = share;
  if (!url) return element('p', { class: 'muted' }, words.share.no_link_yet);
  // What opens a share again gives it another link at the same address of the picture.
  const picture = `${BASE}/shares/${encodeURIComponent(share.id)}/qr.svg?until=${encodeURIComponent(share.expires_at)}`;
  const code = element('figure', {},
    // A link to a file with a very long name does not fit into a code.
    element('a', { href: picture, target: '_blank', title: words.share.enlarge },
      element('img', { src: picture, width: 176, height: 176, alt: words.share.qr, onerror: () => code.remove() })),
    element('figcaption', { class: 'muted small' }, words.share.scan));
  return element('div', { class: 'link-view' },
    copyField(words.share.link, url, { isPrimary: true }),
    reachText(url) && element('p', { class: 'small notice' }, reachText(url)),
    element('div', { class: 'ways' },
      code,
      element('div', {},
        element('p', { class: 'muted small' }, useText(share.policy.max_downloads)),
        element('p', { class: 'send' }, sendButton(share, url), mailLink(share, url)))),
    share.curl && element('details', { class: 'small' }, element('summary', {}, words.share.terminal), copyField(words.share.terminal_line, share.curl)));
}

/**
 * Hands the link to the system's own sheet, where there is one: phones, and over HTTPS only.
 * @param {import('./share-book.js').Share} share
 * @param {string} url
 */
function sendButton(share, url) {
  if (!navigator.share) return null;
  const title = say(words.share.mail_subject, { name: displayText(share.name) });
  // Whoever closes the sheet again has not failed.
  const send = () => navigator.share({ title, url }).catch(() => {});
  return element('button', { type: 'button', class: 'button small', onclick: send }, words.share.send);
}

/**
 * @param {import('./share-book.js').Share} share
 * @param {string} url
 */
function mailLink(share, url) {
  const name = displayText(share.name);
  const { policy, state } = share;
  // Whoever reads a mail is elsewhere, and reads it later.
  const full = (/** @type {string} */ at) => new Date(at).toLocaleString(language, {
    weekday: 'long', day: 'numeric', month: 'long', hour: '2-digit', minute: '2-digit', timeZoneName: 'short',
  });
  const starts = state === 'scheduled' ? policy.starts_at : null;
  const phrase = /** @type {const} */ (`mail_body_${policy.max_downloads === 1 ? 'once' : 'some'}${starts ? '_from' : ''}`);
  const text = say(words.share[phrase], { name, size: sizeText(share.size_bytes), start: starts ? full(starts) : '', end: full(share.expires_at) });
  const subject = encodeURIComponent(say(words.share.mail_subject, { name }));
  const body = encodeURIComponent(`${text}\r\n\r\n${url}\r\n`);
  return element('a', { class: 'button small', href: `mailto:?subject=${subject}&body=${body}` }, words.share.mail);
}

/** Says where a link is of no use, as far as its address tells; nothing where it may work everywhere. @param {string} url */
export function reachText(url) {
  const { hostname } = new URL(url);
  if (/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)) return words.share.only_here;
  const isHome = /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|\[f[cde])/.test(hostname) || /\.(local|lan|home|internal|fritz\.box)$/.test(hostname) || !/[.:]/.test(hostname);
  return isHome ? words.share.only_home : null;
}

/** @param {number|null} downloads */
function useText(downloads) {
  if (downloads === null) return words.share.use_any;
  const times = downloads === 1 ? words.share.use_once : say(words.share.use_times, { n: downloads });
  return `${times} ${words.share.looking_is_free}`;
}
