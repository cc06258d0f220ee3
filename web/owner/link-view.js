// What an owner hands on: the link, its QR code, the line for a terminal, and the ways to send it.

import { BASE } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { displayText, sizeText, timeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';
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
    element('img', { src: picture, width: 176, height: 176, alt: words.share.qr, onerror: () => code.remove() }),
    element('figcaption', { class: 'muted small' }, words.share.scan));
  return element('div', { class: 'link-view' },
    copyField(words.share.link, url, { isPrimary: true }),
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
  const end = timeText(new Date(share.expires_at), new Date());
  const subject = encodeURIComponent(say(words.share.mail_subject, { name }));
  const body = encodeURIComponent(`${say(words.share.mail_body, { name, size: sizeText(share.size_bytes), end })}\r\n\r\n${url}\r\n`);
  return element('a', { class: 'button small', href: `mailto:?subject=${subject}&body=${body}` }, words.share.mail);
}

/** @param {number|null} downloads */
function useText(downloads) {
  if (downloads === null) return words.share.use_any;
  const times = downloads === 1 ? words.share.use_once : say(words.share.use_times, { n: downloads });
  return `${times} ${words.share.looking_is_free}`;
}
