// A text to take away, with a button that copies it.

import { announce, element } from '../shared/dom.js';

/** How long the button says that it worked. */
const THANKS_MS = 2000;

/**
 * Makes a read-only field with a Copy button.
 * @param {string} label
 * @param {string} value
 * @param {{isPrimary?: boolean}} [options]
 */
export function copyField(label, value, { isPrimary = false } = {}) {
  const field = element('input', { readOnly: true, value, class: 'mono', 'aria-label': label, onfocus: () => field.select() });
  const button = element('button', { type: 'button', class: isPrimary ? 'button primary' : 'button', 'aria-label': `Copy: ${label}` }, 'Copy');
  button.addEventListener('click', async () => {
    const copied = await copy(field.value, field);
    button.textContent = copied ? 'Copied' : 'Press Ctrl+C';
    announce(copied ? 'Copied' : 'Press Control C to copy');
    setTimeout(() => { button.textContent = 'Copy'; }, THANKS_MS);
  });
  return element('div', { class: 'copy-field' }, field, button);
}

/**
 * Puts `text` on the clipboard; returns whether that worked. The Clipboard API is missing on plain HTTP, which a LAN often
 * is; there the text of `field` is selected and copied as by hand, and stays selected.
 * @param {string} text
 * @param {HTMLInputElement} field
 */
async function copy(text, field) {
  try {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // Refused, as when the page has no focus: try the other way.
  }
  field.focus();
  field.select();
  try {
    return document.execCommand('copy');
  } catch {
    return false;
  }
}
