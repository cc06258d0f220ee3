// A word about what was just done, and perhaps a way back. It goes by itself; who reads slowly or by ear finds the same on
// the card and in the announcements.

import { element } from '../shared/dom.js';

/** How long it stays; one that offers a way back, and an error, longer. */
const STAYS_MS = 4000;
const STAYS_LONG_MS = 12_000;
/** How many stand at once. */
const MAX_TOASTS = 3;

/**
 * @param {string} text
 * @param {{isError?: boolean, action?: {text: string, run: () => void}}} [options]
 */
export function toast(text, { isError = false, action } = {}) {
  const box = /** @type {HTMLElement} */ (document.getElementById('toasts'));
  const made = element('div', { class: isError ? 'toast bad' : 'toast', role: isError ? 'alert' : undefined }, element('span', {}, text));
  const leave = () => made.remove();
  if (action) {
    made.append(element('button', { type: 'button', class: 'button quiet', onclick: () => { leave(); action.run(); } }, action.text));
  }
  box.append(made);
  while (box.childElementCount > MAX_TOASTS) box.firstElementChild?.remove();
  setTimeout(leave, isError || action ? STAYS_LONG_MS : STAYS_MS);
}
