// What an owner hands on: the link, its QR code, the line for a terminal.

import { BASE } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { copyField } from './copy-field.js';

/**
 * Shows a share's link; where it has none (its door is being opened), says so.
 * @param {import('./share-book.js').Share} share
 */
export function linkView(share) {
  if (!share.url) return element('p', { class: 'muted' }, 'The link is there as soon as the door is open.');
  // What opens a share again gives it another link at the same address of the picture.
  const picture = `${BASE}/shares/${encodeURIComponent(share.id)}/qr.svg?until=${encodeURIComponent(share.expires_at)}`;
  const code = element('figure', {},
    // A link to a file with a very long name does not fit into a code.
    element('img', { src: picture, width: 220, height: 220, alt: 'The link as a QR code', onerror: () => code.remove() }),
    element('figcaption', { class: 'muted small' }, 'Scan it with a phone'));
  return element('div', { class: 'link-view' },
    copyField('Link', share.url, { isPrimary: true }),
    element('div', { class: 'ways' },
      code,
      element('div', {},
        share.curl ? element('p', { class: 'small' }, 'On a command line:') : null,
        share.curl ? copyField('Line for a terminal', share.curl) : null,
        element('p', { class: 'muted small' }, useText(share.policy.max_downloads)))));
}

/** @param {number|null} downloads */
function useText(downloads) {
  if (downloads === null) return 'It works for everybody who has it, until its time is up.';
  const times = downloads === 1 ? 'Send it to one person: it works once.' : `It works ${downloads} times.`;
  return `${times} Looking at the page does not use it up.`;
}
