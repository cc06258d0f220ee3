// One share: its sentence, how far it is, who has it, and what its owner can do with it.

import { announce, element } from '../shared/dom.js';
import { agentText, displayText, durationChoices, durationText, localTimes, runDown, sizeText, timeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';
import { linkView } from './link-view.js';
import { canNotify } from './notices.js';
import { sentenceOfShare } from './policy.js';
import { Sparkline } from './sparkline.js';
import { toast } from './toast.js';

/** What can be done with a share, by its state. */
const ACTIONS = {
  scheduled: ['link', 'extend', 'close'],
  opening: ['link', 'extend', 'close'],
  offered: ['link', 'transfers', 'extend', 'notify', 'close'],
  transferring: ['link', 'transfers', 'extend', 'notify', 'close'],
  waiting: ['link', 'transfers', 'extend', 'notify', 'close'],
  delivered: ['transfers', 'close'],
  closing: ['transfers'],
  closed: ['undo', 'transfers', 'reopen'],
};
/** @typedef {'link'|'transfers'|'extend'|'notify'|'close'|'undo'|'reopen'} Action */
/** What is done at once, and opens nothing. */
const AT_ONCE = ['notify', 'undo', 'reopen'];

class ShareCard extends HTMLElement {
  /** @type {import('./share-book.js').Share} */
  #share;
  #book;
  #session;
  #name = element('bdi');
  #heading = element('h3', { tabIndex: -1 }, this.#name);
  #state = element('p', { class: 'state' });
  #reach = element('p', { class: 'small notice', hidden: true });
  #bar = element('progress', { max: 100 });
  #sparkline = new Sparkline();
  #who = element('ul', { class: 'who small', hidden: true });
  #facts = element('p', { class: 'muted small' });
  #note = element('p', { class: 'note small' });
  #actions = element('div', { class: 'actions' });
  #panel = element('div', { class: 'panel', hidden: true });
  #error = element('p', { class: 'error', role: 'alert', hidden: true });
  /** @type {Action|null} */
  #opened = null;
  #shownActions = '';
  /** @type {string|null} */
  #shownUrl = null;
  /** @type {import('./transfers-view.js').TransfersView|null} */
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
    this.append(this.#heading, this.#state, this.#reach, this.#bar, this.#sparkline.box, this.#who, this.#facts, this.#note, this.#error, this.#actions, this.#panel);
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
    this.#showWho();
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
    const { state_text: text, received = Date.now(), state } = this.#share;
    const sentence = localTimes(runDown(text, (Date.now() - received) / 1000), new Date(received));
    if (this.#state.textContent !== sentence) this.#state.textContent = sentence;
    if (state === 'closed') this.#showActions();
  }

  /** Opens the part with the link, and brings the card into view. @param {{copied?: boolean}} [how] */
  showLink({ copied = false } = {}) {
    this.#open('link');
    this.classList.add('fresh');
    this.scrollIntoView({ block: 'nearest' });
    // What could not be copied by itself is one key away.
    if (!copied) /** @type {HTMLInputElement|null} */ (this.#panel.querySelector('.copy-field input'))?.focus({ preventScroll: true });
  }

  #showProgress() {
    const { state, progress, name } = this.#share;
    const isRunning = state === 'transferring' || state === 'waiting';
    // Of an offer for several the bar would tell of the one before.
    this.#bar.hidden = !(isRunning || state === 'delivered');
    this.#bar.value = progress.percent;
    this.#bar.setAttribute('aria-label', say(words.share.progress, { name: displayText(name) }));
    if (isRunning) this.#sparkline.add(progress.bytes_per_second);
    this.#sparkline.box.toggleAttribute('hidden', !isRunning || this.#sparkline.isEmpty);
  }

  #showWho() {
    const { active = [], state } = this.#share;
    const lines = state === 'closed' ? [] : active.map(({ agent, address, percent }) => {
      const who = [agentText(agent), address && displayText(address)].filter(Boolean).join(' · ');
      return element('li', { title: displayText(agent) }, say(words.share.who, { who, percent }));
    });
    this.#who.replaceChildren(...lines);
    this.#who.hidden = lines.length === 0;
  }

  #wantedActions() {
    const { state, transfers, url, undo_until: until } = this.#share;
    return /** @type {Action[]} */ ((ACTIONS[/** @type {keyof typeof ACTIONS} */ (state)] ?? []).filter((name) => {
      if (name === 'transfers') return transfers > 0;
      if (name === 'link') return url !== null;
      if (name === 'notify') return canNotify() && Notification.permission === 'default';
      if (name === 'undo') return Boolean(until) && new Date(until ?? 0) > new Date();
      return true;
    }));
  }

  #showActions() {
    const wanted = this.#wantedActions();
    if (this.#shownActions === wanted.join()) return;
    this.#shownActions = wanted.join();
    const hadFocus = this.#actions.contains(document.activeElement) || this.#panel.contains(document.activeElement);
    const mayStay = this.#opened === null || wanted.includes(this.#opened);
    if (!mayStay) this.#shut();
    this.#actions.replaceChildren(...wanted.map((name) => this.#button(name)));
    if (hadFocus && (!mayStay || !this.contains(document.activeElement))) this.#heading.focus();
  }

  /** @param {Action} name */
  #button(name) {
    const onclick = () => (AT_ONCE.includes(name) ? this.#doAtOnce(name) : this.#opened === name ? this.#shut() : this.#open(name));
    return element('button', {
      type: 'button', class: 'button', 'data-action': name, 'aria-expanded': AT_ONCE.includes(name) ? undefined : String(this.#opened === name), onclick,
    }, name === 'undo' ? words.share.undo_same : words.share[name]);
  }

  /** @param {Action} name */
  #open(name) {
    this.#shut();
    // Where nothing was sent yet a press may be taken back, so nobody is asked.
    if (name === 'close' && this.#share.progress.delivered_bytes === 0 && this.#share.transfers === 0 && this.#share.state === 'offered') {
      this.#doAtOnce('close');
      return;
    }
    this.#opened = name;
    this.#actions.querySelector(`[data-action=${name}]`)?.setAttribute('aria-expanded', 'true');
    this.#panel.hidden = false;
    if (name === 'link') {
      this.#shownUrl = this.#share.url;
      this.#panel.append(linkView(this.#share));
    } else if (name === 'extend') this.#panel.append(this.#extendView());
    else if (name === 'close') this.#panel.append(this.#closeView());
    else if (name === 'transfers') {
      this.#openTransfers();
    }
  }

  async #openTransfers() {
    const { TransfersView } = await import('./transfers-view.js');
    if (this.#opened !== 'transfers' || this.#transfers) return;
    this.#transfers = new TransfersView(this.#share, (error) => this.#say(error));
    this.#panel.append(this.#transfers.box);
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
    const really = element('button', { type: 'button', class: 'button danger', onclick: () => this.#do(really, () => this.#book.close(this.#share.id)) }, words.share.close_door);
    setTimeout(() => really.focus());
    return element('div', {},
      element('p', {}, isRunning ? words.share.close_running : words.share.close_asks),
      element('div', { class: 'buttons' }, this.#keepButton('close', words.share.keep_open), really));
  }

  #extendView() {
    const choices = durationChoices(this.#session.max_tunnel_seconds);
    const choice = element('select', { 'aria-label': words.share.how_long }, ...choices.map((seconds) =>
      element('option', { value: String(seconds), selected: seconds === choices[choices.length - 1] }, durationText(seconds))));
    const extend = element('button', {
      type: 'button', class: 'button primary', onclick: () => this.#do(extend, () => this.#book.extend(this.#share.id, Number(choice.value))),
    }, words.share.set);
    setTimeout(() => choice.focus());
    return element('div', {},
      element('p', {}, this.#share.state === 'scheduled' ? words.share.from_start : words.share.from_now),
      element('div', { class: 'buttons' }, choice, this.#keepButton('extend', words.share.cancel), extend));
  }

  /**
   * @param {Action} name
   * @param {string} text
   */
  #keepButton(name, text) {
    return element('button', { type: 'button', class: 'button', onclick: () => {
      this.#shut();
      /** @type {HTMLElement|null} */ (this.#actions.querySelector(`[data-action=${name}]`))?.focus();
    } }, text);
  }

  /** @param {Action} name */
  async #doAtOnce(name) {
    const { id } = this.#share;
    const button = /** @type {HTMLButtonElement} */ (this.#actions.querySelector(`[data-action=${name}]`));
    if (name === 'notify') {
      const answer = await Notification.requestPermission();
      toast(answer === 'granted' ? words.share.notify_on : words.share.notify_denied);
      this.#showActions();
    } else if (name === 'close') {
      if (await this.#do(button, () => this.#book.close(id))) this.#offerUndo();
    } else if (name === 'undo') {
      await this.#do(button, () => this.#book.undo(id));
    } else if (await this.#do(button, () => this.#book.reopen(id))) {
      this.showLink();
    }
  }

  /** A card that closed moves away from where it was; the way back stays at hand. */
  #offerUndo() {
    const { id, name } = this.#share;
    const run = () => { this.#book.undo(id).catch((error) => toast(error.message, { isError: true })); };
    toast(say(words.share.closed_toast, { name: displayText(name) }), { action: { text: words.share.undo, run } });
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
  const { allowed_networks: networks, max_bytes_per_second: speed } = share.policy;
  if (networks.length > 0) facts.push(say(words.share.only_from, { networks: networks.join(', ') }));
  if (speed !== null) facts.push(say(words.share.at_most, { speed: sizeText(speed) }));
  if (share.looks && share.looks.previews > 0) facts.push(say(words.share.previews, { n: share.looks.previews }));
  if (share.state === 'closed') facts.push(say(words.share.shared_at, { time: timeText(new Date(share.created_at), now) }));
  else if (['scheduled', 'opening', 'offered', 'transferring', 'waiting'].includes(share.state)) {
    facts.push(sentenceOfShare(share));
  }
  if (share.state === 'delivered') facts.push(words.share.again_until);
  return facts.join(' · ');
}
