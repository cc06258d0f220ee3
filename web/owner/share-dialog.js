// The small dialog that shares a file: for how long, for how many, and then the link.

import { newKey } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { displayText, durationChoices, durationText, localTimes, sizeText } from '../shared/format.js';
import { linkView } from './link-view.js';

/** The server's own bound on `max_downloads`. */
const MAX_DOWNLOADS = 1000;
/** In UTF-16 units, of which none takes more than three bytes: below the server's 2000 bytes whatever is written. */
const MAX_NOTE_LENGTH = 600;
/** As for the note: below the server's 1000 bytes. */
const MAX_MESSAGE_LENGTH = 333;
/** The server's own bound on `allowed_networks`. */
const MAX_NETWORKS = 16;
/** What people call a megabyte per second, in bytes. */
const MEGABYTE = 1_000_000;

export class ShareDialog {
  #session;
  #book;
  #dialog = element('dialog', { class: 'share-dialog', 'aria-labelledby': 'dialog-heading' });

  /**
   * @param {import('./app.js').Session} session
   * @param {import('./share-book.js').ShareBook} book
   */
  constructor(session, book) {
    this.#session = session;
    this.#book = book;
    document.body.append(this.#dialog);
    // A click beside the dialog leaves it, as Escape does.
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
  }

  /** Asks how to share a file. @param {import('./files.js').Entry} entry */
  offer(entry) {
    const { defaults, max_tunnel_seconds: longest } = this.#session;
    const chosen = Math.min(defaults.expires_in_seconds, longest);
    const choices = [...new Set([...durationChoices(longest), chosen])].sort((a, b) => a - b);
    const expiry = element('select', { id: 'expiry', name: 'expiry' }, ...choices.map((seconds) =>
      element('option', { value: String(seconds), selected: seconds === chosen }, durationText(seconds))));
    const downloads = element('input', {
      id: 'downloads', name: 'downloads', type: 'number', min: '1', max: String(MAX_DOWNLOADS), required: true, inputMode: 'numeric',
      value: String(defaults.max_downloads),
    });
    const more = moreRules(downloads);
    const note = element('input', { id: 'note', name: 'note', maxLength: MAX_NOTE_LENGTH, placeholder: 'Only you see it', autocomplete: 'off' });
    const error = element('p', { class: 'error', role: 'alert', hidden: true });
    const submit = element('button', { class: 'button primary' }, 'Share');
    // The same wish, sent again after a lost answer, finds the share that was made; another wish is another share.
    let sent = { wish: '', key: '' };

    const form = element('form', { onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      error.hidden = true;
      submit.disabled = true;
      submit.textContent = 'Opening the door…';
      const limit = downloads.disabled ? { unlimited_downloads: true } : { max_downloads: Number(downloads.value) };
      const { message, ...rules } = more.read();
      const policy = { ...limit, expires_in_seconds: Number(expiry.value), ...rules };
      const text = note.value.trim();
      const body = { path: entry.path, policy, ...(text && { note: text }), ...(message && { message }) };
      const wish = JSON.stringify(body);
      if (wish !== sent.wish) sent = { wish, key: newKey() };
      try {
        const share = await this.#book.create(body, sent.key);
        if (this.#dialog.contains(form)) this.#show(share);
      } catch (reason) {
        error.textContent = /** @type {Error} */ (reason).message;
        error.hidden = false;
        if (/** @type {any} */ (reason).status !== 0) sent.wish = '';
        submit.disabled = false;
        submit.textContent = 'Share';
        submit.focus();
      }
    } },
    heading('Share', entry.name),
    element('p', { class: 'muted' }, sizeText(entry.size_bytes)),
    error,
    element('div', { class: 'pair' },
      element('div', {}, element('label', { for: 'expiry' }, 'The link works for'), expiry),
      element('div', {}, element('label', { for: 'downloads' }, 'Downloads'), downloads)),
    element('label', { for: 'note' }, 'Note'), note,
    element('details', {}, element('summary', {}, 'More'), ...more.fields),
    element('div', { class: 'buttons' }, this.#leave('Cancel'), submit));
    this.#open(form);
    submit.focus();
  }

  /** Shows the link of a share that was made, as it stands from here on. @param {import('./share-book.js').Share} made */
  #show(made) {
    const state = element('p', { class: 'state', role: 'status' });
    const link = element('div');
    /** @type {string|null|undefined} */
    let shown;
    const update = () => {
      const share = this.#book.get(made.id) ?? made;
      state.textContent = localTimes(share.state_text, new Date(share.received ?? Date.now()));
      if (share.url === shown) return;
      shown = share.url;
      link.replaceChildren(linkView(share));
      // Where it was the door that took its time, the owner waits for this button.
      if (this.#dialog.contains(link)) focusCopy();
    };
    const focusCopy = () => /** @type {HTMLElement|null} */ (link.querySelector('button'))?.focus();
    update();
    const clamped = made.clamped.length > 0 && element('p', { class: 'small notice' },
      `The time was shortened to ${durationText(made.policy.expires_in_seconds)}, the longest that is allowed here.`);
    const onShare = (/** @type {any} */ event) => event.detail.id === made.id && update();
    this.#book.addEventListener('share', onShare);
    this.#open(element('div', {}, heading('Shared:', made.name), state, clamped, link, element('div', { class: 'buttons' }, this.#leave('Done'))));
    this.#dialog.addEventListener('close', () => this.#book.removeEventListener('share', onShare), { once: true });
    focusCopy();
  }

  /** @param {Node} content */
  #open(content) {
    this.#dialog.replaceChildren(element('div', { class: 'inside' }, /** @type {Node} */ (content)));
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  /** @param {string} text */
  #leave(text) {
    return element('button', { type: 'button', class: 'button', onclick: () => this.#dialog.close() }, text);
  }
}

/**
 * The rules that few links need.
 * @param {HTMLInputElement} downloads shut where their number has no limit
 */
function moreRules(downloads) {
  const unlimited = element('input', {
    id: 'unlimited', name: 'unlimited', type: 'checkbox', onchange: () => { downloads.disabled = unlimited.checked; },
  });
  const message = element('textarea', { id: 'message', name: 'message', rows: 2, maxLength: MAX_MESSAGE_LENGTH, placeholder: 'Shown beside the download' });
  const start = element('input', { id: 'start', name: 'start', type: 'datetime-local' });
  const speed = element('input', { id: 'speed', name: 'speed', type: 'number', step: 'any', inputMode: 'decimal', placeholder: 'No limit' });
  const networks = element('input', { id: 'networks', name: 'networks', autocomplete: 'off', placeholder: 'From everywhere' });
  const stall = element('select', { id: 'stall', name: 'stall' },
    element('option', { value: 'close' }, 'Close the door'),
    element('option', { value: 'reopen' }, 'Let the link be used again'));
  const fields = [
    element('label', { class: 'tick' }, unlimited, ' Any number of downloads, until the time is up'),
    element('label', { for: 'message' }, 'Message to the recipient'), message,
    element('label', { for: 'start' }, 'Opens at'), start,
    element('label', { for: 'speed' }, 'At most, in MB/s'), speed,
    element('label', { for: 'networks' }, `Only from these networks (up to ${MAX_NETWORKS}, as 203.0.113.0/24)`), networks,
    element('label', { for: 'stall' }, 'If a download stops for too long'), stall,
  ];
  const read = () => {
    const allowed = networks.value.split(/[\s,;]+/).filter((text) => text !== '');
    return {
      on_stall: stall.value,
      ...(start.value && { starts_at: new Date(start.value).toISOString() }),
      ...(speed.value && { max_bytes_per_second: Math.round(Number(speed.value) * MEGABYTE) }),
      ...(allowed.length > 0 && { allowed_networks: allowed }),
      message: message.value.trim(),
    };
  };
  return { fields, read };
}

/**
 * @param {string} word
 * @param {string} name
 */
function heading(word, name) {
  return element('h2', { id: 'dialog-heading' }, `${word} `, element('bdi', {}, displayText(name)));
}
