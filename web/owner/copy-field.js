// A text to take away, with a button that copies it.

import { announce, element } from '../shared/dom.js';
import { say, words } from '../shared/words.js';
import { copyText } from './clipboard.js';

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
  const button = element('button', {
    type: 'button', class: isPrimary ? 'button primary' : 'button', 'aria-label': say(words.shell.copy_named, { name: label }),
  }, words.shell.copy);
  button.addEventListener('click', async () => {
    const copied = await copyText(field.value, field);
    button.textContent = copied ? words.shell.copied : words.shell.press_copy;
    announce(button.textContent);
    setTimeout(() => { button.textContent = words.shell.copy; }, THANKS_MS);
  });
  return element('div', { class: 'copy-field' }, field, button);
}
