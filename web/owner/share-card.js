// One share: its sentence, how far it is, and what its owner can do with it.

import { announce, element } from '../shared/dom.js';
import { displayText, durationChoices, durationText, localTimes, runDown, sizeText, timeText } from '../shared/format.js';
import { linkView } from './link-view.js';
import { TransfersView } from './transfers-view.js';

/** What can be done with a share, by its state. */
const ACTIONS = {
  scheduled: ['link', 'extend', 'close'],
  opening: ['link', 'extend', 'close'],
  offered: ['link', 'transfers', 'extend', 'close'],
  transferring: ['link', 'transfers', 'extend', 'close'],
  waiting: ['link', 'transfers', 'extend', 'close'],
  delivered: ['transfers', 'close'],
  closing: ['transfers'],
  closed: ['transfers', 'reopen'],
};
const WORDS = { link: 'Link', transfers: 'Downloads', extend: 'More time', close: 'Close', reopen: 'Share again' };

class ShareCard extends HTMLElement {
  /** @type {import('./share-book.js').Share} */
  #share;
  #book;
  #session;
  #name = element('bdi');
  #heading = element('h3', { tabIndex: -1 }, this.#name);
  #state = element('p', { class: 'state' });
  #reach = element('p', { class: 'small', hidden: true });
  #bar = element('progress', { max: 100, 'aria-label': 'Progress' });
  #facts = element('p', { class: 'muted small' });
  #note = element('p', { class: 'note small' });
  #actions = element('div', { class: 'actions' });
  #panel = element('div', { class: 'panel', hidden: true });
  #error = element('p', { class: 'error', role: 'alert', hidden: true });
  /** @type {keyof typeof WORDS|null} */
  #opened = null;
  #shownActions = '';
  /** @type {string|null} */
  #shownUrl = null;
  /** @type {TransfersView|null} */
  #transfers = null;

  /**
   * @param {import('./share-book.js').Share} share
   * @param {import('./share-book.js').ShareBook} book
   * @param {import('./app.js').Session} session
   */
  constructor(share, book, session) {
    super();
    this.#share = share;
    this.#book = book;
    this.#session = session;
  }

  connectedCallback() {
    if (this.childElementCount > 0) return;
    this.setAttribute('role', 'listitem');
    this.append(this.#heading, this.#state, this.#reach, this.#bar, this.#facts, this.#note, this.#error, this.#actions, this.#panel);
    this.update(this.#share);
  }

  /** Shows the share as it stands now. @param {import('./share-book.js').Share} share */
  update(share) {
    const before = this.#share;
    this.#share = share;
    this.dataset.state = share.state;
    this.dataset.outcome = share.outcome ?? '';
    this.#name.textContent = displayText(share.name);
    this.#heading.title = displayText(share.path);
    const { reachable, reach_problem: problem } = share.tunnel;
    this.#reach.textContent = problem ?? '';
    this.#reach.hidden = problem === null || reachable === 'not_probed';
    this.#showProgress();
    this.#facts.textContent = factsText(share);
    this.#note.textContent = share.note ?? '';
    this.#note.hidden = !share.note;
    this.#showActions();
    this.tick();
    if (before.state !== share.state) announce(`${displayText(share.name)}: ${this.#state.textContent}`);
    if (this.#opened === 'link' && this.#shownUrl !== share.url) this.#open('link');
    if (this.#opened === 'transfers') this.#transfers?.refresh(share);
  }

  /** Lets the sentence's countdown run. */
  tick() {
    const { state_text: text, received = Date.now() } = this.#share;
    const sentence = localTimes(runDown(text, (Date.now() - received) / 1000), new Date(received));
    if (this.#state.textContent !== sentence) this.#state.textContent = sentence;
  }

  /** Opens the part with the link, and brings the card into view. */
  #showLink() {
    this.#open('link');
    this.scrollIntoView({ block: 'nearest' });
    this.#heading.focus({ preventScroll: true });
  }

  #showProgress() {
    const { state, progress } = this.#share;
    const isRunning = state === 'transferring' || state === 'waiting';
    this.#bar.hidden = !(isRunning || (progress.percent > 0 && state !== 'closed'));
    this.#bar.value = progress.percent;
  }

  #showActions() {
    const { state, transfers, url } = this.#share;
    const wanted = (ACTIONS[/** @type {keyof typeof ACTIONS} */ (state)] ?? []).filter((name) =>
      (name !== 'transfers' || transfers > 0) && (name !== 'link' || url !== null));
    if (this.#shownActions === wanted.join()) return;
    this.#shownActions = wanted.join();
    const hadFocus = this.#actions.contains(document.activeElement) || this.#panel.contains(document.activeElement);
    const mayStay = this.#opened === null || wanted.includes(this.#opened);
    if (!mayStay) this.#shut();
    this.#actions.replaceChildren(...wanted.map((name) => this.#button(/** @type {keyof typeof WORDS} */ (name))));
    if (hadFocus && (!mayStay || !this.contains(document.activeElement))) this.#heading.focus();
  }

  /** @param {keyof typeof WORDS} name */
  #button(name) {
    const onclick = name === 'reopen' ? () => this.#reopen() : () => (this.#opened === name ? this.#shut() : this.#open(name));
    return element('button', {
      type: 'button', class: 'button', 'data-action': name, 'aria-expanded': name === 'reopen' ? undefined : String(this.#opened === name), onclick,
    }, WORDS[name]);
  }

  /** @param {keyof typeof WORDS} name */
  #open(name) {
    this.#shut();
    this.#opened = name;
    this.#actions.querySelector(`[data-action=${name}]`)?.setAttribute('aria-expanded', 'true');
    this.#panel.hidden = false;
    if (name === 'link') {
      this.#shownUrl = this.#share.url;
      this.#panel.append(linkView(this.#share));
    } else if (name === 'extend') this.#panel.append(this.#extendView());
    else if (name === 'close') this.#panel.append(this.#closeView());
    else if (name === 'transfers') {
      this.#transfers = new TransfersView(this.#share, (error) => this.#say(error));
      this.#panel.append(this.#transfers.box);
    }
  }

  #shut() {
    const name = this.#opened;
    this.#opened = null;
    this.#transfers = null;
    this.#panel.replaceChildren();
    this.#panel.hidden = true;
    this.#actions.querySelector(`[data-action=${name}]`)?.setAttribute('aria-expanded', 'false');
  }

  #closeView() {
    const isRunning = this.#share.state === 'transferring' || this.#share.state === 'waiting';
    const really = element('button', { type: 'button', class: 'button danger', onclick: () => this.#do(really, () => this.#book.close(this.#share.id)) }, 'Close the door');
    setTimeout(() => really.focus());
    return element('div', {},
      element('p', {}, isRunning ? 'A download is running. It stops at once, and the link stops working.' : 'The link stops working at once.'),
      element('div', { class: 'buttons' }, this.#keepButton('close', 'Keep it open'), really));
  }

  #extendView() {
    const choices = durationChoices(this.#session.max_tunnel_seconds);
    const choice = element('select', { 'aria-label': 'How long the link works from now' }, ...choices.map((seconds) =>
      element('option', { value: String(seconds), selected: seconds === choices[choices.length - 1] }, durationText(seconds))));
    const extend = element('button', {
      type: 'button', class: 'button primary', onclick: () => this.#do(extend, () => this.#book.extend(this.#share.id, Number(choice.value))),
    }, 'Set');
    setTimeout(() => choice.focus());
    return element('div', {},
      element('p', {}, this.#share.state === 'scheduled' ? 'From its start the link works for:' : 'From now on the link works for:'),
      element('div', { class: 'buttons' }, choice, this.#keepButton('extend', 'Cancel'), extend));
  }

  /**
   * @param {keyof typeof WORDS} name
   * @param {string} text
   */
  #keepButton(name, text) {
    return element('button', { type: 'button', class: 'button', onclick: () => {
      this.#shut();
      /** @type {HTMLElement|null} */ (this.#actions.querySelector(`[data-action=${name}]`))?.focus();
    } }, text);
  }

  async #reopen() {
    const button = /** @type {HTMLButtonElement} */ (this.#actions.querySelector('[data-action=reopen]'));
    if (await this.#do(button, () => this.#book.reopen(this.#share.id))) this.#showLink();
  }

  /**
   * Does something that takes a moment, and says why it did not work. Returns whether it did.
   * @param {HTMLButtonElement} button
   * @param {() => Promise<void>} action
   */
  async #do(button, action) {
    this.#error.hidden = true;
    button.disabled = true;
    try {
      await action();
      this.#shut();
      if (this.isConnected) this.#heading.focus();
      return true;
    } catch (error) {
      button.disabled = false;
      button.focus();
      this.#say(/** @type {Error} */ (error));
      return false;
    }
  }

  /** @param {Error} error */
  #say(error) {
    this.#error.textContent = error.message;
    this.#error.hidden = false;
  }
}

customElements.define('share-card', ShareCard);
export { ShareCard };

/** @param {import('./share-book.js').Share} share */
function factsText(share) {
  const now = new Date();
  const facts = [sizeText(share.size_bytes)];
  const { max_downloads: downloads, allowed_networks: networks, max_bytes_per_second: speed } = share.policy;
  if (downloads === null) facts.push('for any number of downloads');
  else if (downloads > 1) facts.push(`for ${downloads} downloads`);
  if (networks.length > 0) facts.push(`only from ${networks.join(', ')}`);
  if (speed !== null) facts.push(`at most ${sizeText(speed)}/s`);
  if (share.state === 'closed') facts.push(`shared ${timeText(new Date(share.created_at), now)}`);
  else if (['opening', 'offered', 'transferring', 'waiting'].includes(share.state)) facts.push(`link works until ${timeText(new Date(share.expires_at), now)}`);
  return facts.join(' · ');
}
