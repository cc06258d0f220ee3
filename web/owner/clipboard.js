// Puts a text on the clipboard, on plain HTTP too, which a LAN often is: there the Clipboard API is missing.

/**
 * Copies `text`. Must be called from a press of a key or a button; returns whether it worked.
 * @param {string} text
 * @param {HTMLInputElement} [field] shows the text already: it stays selected where it could not be copied
 */
export async function copyText(text, field) {
  try {
    if (navigator.clipboard && isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // Refused, as when the page has no focus: try the other way.
  }
  return copyBySelection(text, field);
}

/**
 * Copies a text that is still being made: a browser lets a page copy for some seconds after a press, Safari only what was
 * promised to it at once.
 * @param {Promise<string|null>} coming `null`: there is nothing to copy
 */
export async function copyComing(coming) {
  if (navigator.clipboard && isSecureContext && 'ClipboardItem' in globalThis) {
    const blob = coming.then((text) => {
      if (text === null) throw new Error('nothing to copy');
      return new Blob([text], { type: 'text/plain' });
    });
    try {
      await navigator.clipboard.write([new ClipboardItem({ 'text/plain': blob })]);
      return true;
    } catch {
      // Not allowed, or it took too long: try the other way.
    }
  }
  const text = await coming.catch(() => null);
  return text !== null && copyText(text);
}

/**
 * @param {string} text
 * @param {HTMLInputElement} [field]
 */
function copyBySelection(text, field) {
  const before = /** @type {HTMLElement|null} */ (document.activeElement);
  /** @type {HTMLInputElement|HTMLTextAreaElement} */
  let source;
  if (field) {
    source = field;
  } else {
    source = document.createElement('textarea');
    source.value = text;
    source.readOnly = true;
    source.className = 'unseen';
    // What is outside of an open dialog cannot be selected.
    (document.querySelector('dialog[open]') ?? document.body).append(source);
  }
  source.focus({ preventScroll: true });
  source.select();
  let copied = false;
  try {
    copied = document.execCommand('copy');
  } catch {
    // Not allowed.
  }
  if (!field) {
    source.remove();
    before?.focus({ preventScroll: true });
  }
  return copied;
}
