// The drawer with every choice: for how long, for how many, and the rules that few links need.

import { newKey } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { displayText, durationChoices, durationText, sizeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';
import { sentenceOf } from './policy.js';

/** @typedef {import('./file-row.js').Entry} Entry */

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
/** The numbers of downloads that most links need. */
const USUAL_DOWNLOADS = ['1', '3'];

export class ShareDialog {
  #session;
  #sharing;
  #onShared;
  #dialog = element('dialog', { class: 'drawer', 'aria-labelledby': 'dialog-heading' });

  /**
   * @param {import('./app.js').Session} session
   * @param {import('./sharing.js').Sharing} sharing
   * @param {() => void} onShared
   */
  constructor(session, sharing, onShared) {
    this.#session = session;
    this.#sharing = sharing;
    this.#onShared = onShared;
    document.body.append(this.#dialog);
    // A click beside the drawer leaves it, as Escape does.
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
  }

  /** Asks how to share files. @param {Entry[]} entries */
  offer(entries) {
    const { defaults, max_tunnel_seconds: longest } = this.#session;
    const chosen = Math.min(defaults.expires_in_seconds, longest);
    const durations = [...new Set([...durationChoices(longest), chosen])].sort((a, b) => a - b);
    const expiry = chips('expiry', words.share.works_for, durations.map((seconds) => [String(seconds), durationText(seconds)]), String(chosen));
    const usual = USUAL_DOWNLOADS.includes(String(defaults.max_downloads)) ? USUAL_DOWNLOADS : [String(defaults.max_downloads), ...USUAL_DOWNLOADS];
    const downloads = chips('downloads', words.share.downloads, [...usual.map((n) => [n, n]), ['any', words.share.until_expiry], ['other', words.share.other_number]],
      String(defaults.max_downloads));
    const other = element('input', {
      name: 'other', type: 'number', min: '1', max: String(MAX_DOWNLOADS), required: true, inputMode: 'numeric', value: '2', hidden: true, disabled: true,
      'aria-label': words.share.other_number,
    });
    const note = element('input', { id: 'note', name: 'note', maxLength: MAX_NOTE_LENGTH, placeholder: words.share.note_hint, autocomplete: 'off' });
    const start = element('input', { id: 'start', name: 'start', type: 'datetime-local', 'aria-describedby': 'start-hint' });
    const message = element('textarea', { id: 'message', name: 'message', rows: 2, maxLength: MAX_MESSAGE_LENGTH, placeholder: words.share.message_hint });
    const more = moreRules();
    const sentence = element('p', { class: 'sentence', role: 'status' });
    const error = element('p', { class: 'error', role: 'alert', hidden: true });
    const submit = element('button', { class: 'button primary' }, words.share.submit);
    // The same wish, sent again after a lost answer, finds the share that was made; another wish is another share.
    let sent = { wish: '', key: '' };

    const limit = () => {
      const value = downloads.value();
      return value === 'any' ? null : Math.max(1, Number(value === 'other' ? other.value : value));
    };
    const tell = () => {
      other.hidden = other.disabled = downloads.value() !== 'other';
      const starts = start.value ? new Date(start.value) : null;
      const begins = starts && starts > new Date() ? starts : null;
      const said = sentenceOf(limit(), begins, new Date((begins?.getTime() ?? Date.now()) + Number(expiry.value()) * 1000));
      if (sentence.textContent !== said) sentence.textContent = said;
    };
    const ticking = setInterval(tell, 1000);
    this.#dialog.addEventListener('close', () => clearInterval(ticking), { once: true });

    const form = element('form', { method: 'dialog', onchange: tell, oninput: tell, onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      error.hidden = true;
      submit.disabled = true;
      submit.textContent = words.share.opening;
      const n = limit();
      const policy = {
        ...(n === null ? { unlimited_downloads: true } : { max_downloads: n }), expires_in_seconds: Number(expiry.value()),
        ...(start.value && { starts_at: new Date(start.value).toISOString() }), ...more.read(),
      };
      const text = note.value.trim();
      const told = message.value.trim();
      const wish = { policy, ...(text && { note: text }), ...(told && { message: told }) };
      const written = JSON.stringify(wish);
      if (written !== sent.wish) sent = { wish: written, key: newKey() };
      try {
        await this.#sharing.make(entries, wish, sent.key);
        this.#onShared();
        if (this.#dialog.contains(form)) this.#dialog.close();
      } catch (reason) {
        error.textContent = /** @type {Error} */ (reason).message;
        error.hidden = false;
        if (/** @type {any} */ (reason).status !== 0) sent.wish = '';
        submit.disabled = false;
        submit.textContent = words.share.submit;
        submit.focus();
      }
    } },
    element('div', { class: 'scrolls' },
      heading(entries),
      element('p', { class: 'muted' }, sizeText(entries.reduce((sum, entry) => sum + entry.size_bytes, 0))),
      entries.some((entry) => entry.changing) && element('p', { class: 'notice small' }, words.find.changing_why),
      expiry.box, element('p', { class: 'muted small' }, say(words.share.longest, { duration: durationText(longest) })), downloads.box, other,
      element('label', { for: 'message' }, words.share.message), message,
      element('label', { for: 'note' }, words.share.note), note,
      element('label', { for: 'start' }, words.share.starts), start, element('p', { id: 'start-hint', class: 'muted small' }, words.share.starts_hint),
      element('details', {}, element('summary', {}, words.shell.more), ...more.fields)),
    element('div', { class: 'foot' }, error, sentence,
      element('div', { class: 'buttons' }, element('button', { type: 'button', class: 'button', onclick: () => this.#dialog.close() }, words.shell.cancel), submit)));
    tell();
    this.#dialog.replaceChildren(form);
    if (!this.#dialog.open) this.#dialog.showModal();
    submit.focus();
  }
}

/**
 * Makes a row of choices of which one holds.
 * @param {string} name
 * @param {string} label
 * @param {string[][]} choices each its value and its text
 * @param {string} chosen
 */
function chips(name, label, choices, chosen) {
  const inputs = choices.map(([value]) => element('input', { type: 'radio', name, value, checked: value === chosen, id: `${name}-${value}` }));
  const box = element('fieldset', { class: 'chips' }, element('legend', {}, label),
    ...choices.map(([, text], index) => element('span', {}, inputs[index], element('label', { for: inputs[index].id }, text))));
  return { box, value: () => inputs.find((input) => input.checked)?.value ?? chosen };
}

/** The rules that few links need. */
function moreRules() {
  const { share } = words;
  const speed = element('input', { id: 'speed', name: 'speed', type: 'number', step: 'any', inputMode: 'decimal', placeholder: share.speed_hint });
  const networks = element('input', { id: 'networks', name: 'networks', autocomplete: 'off', placeholder: share.networks_hint });
  const stall = element('select', { id: 'stall', name: 'stall' },
    element('option', { value: 'close' }, share.stall_close), element('option', { value: 'reopen' }, share.stall_reopen));
  const fields = [
    element('label', { for: 'speed' }, share.speed), speed,
    element('label', { for: 'networks' }, say(share.networks, { n: MAX_NETWORKS })), networks,
    element('label', { for: 'stall' }, share.stall), stall,
  ];
  const read = () => {
    const allowed = networks.value.split(/[\s,;]+/).filter((text) => text !== '');
    return {
      on_stall: stall.value,
      ...(speed.value && { max_bytes_per_second: Math.round(Number(speed.value) * MEGABYTE) }),
      ...(allowed.length > 0 && { allowed_networks: allowed }),
    };
  };
  return { fields, read };
}

/** @param {Entry[]} entries */
function heading(entries) {
  if (entries.length > 1) return element('h2', { id: 'dialog-heading' }, say(words.share.title_several, { n: entries.length }));
  return element('h2', { id: 'dialog-heading' }, `${words.share.title} `, element('bdi', {}, displayText(entries[0].name)));
}
