// The event log, newest first and live; beside it, for who may see it, the audit log.

import { request } from '../../shared/api.js';
import { announce, element } from '../../shared/dom.js';
import { agentText, displayText } from '../../shared/format.js';
import { timeAgo } from '../../shared/time.js';
import { say, words } from '../../shared/words.js';
import { Pane, addressOf, factLine, sign } from './parts.js';
import { lineRow } from './sentences.js';
import { ShareNames } from './share-names.js';
import './style.js';

/** @typedef {import('./sentences.js').LogLine} LogLine */
/** @typedef {{seq: number, at: string, who: string, from: string, action: string, target: string, detail: string}} AuditLine */

/** How many lines one request brings. */
const PAGE = 100;
/** How many lines the page keeps while new ones come in; older ones are a press away. */
const MAX_LIVE = 1000;
/** The types to choose from, as the API takes them, with the word of each. */
const KINDS = /** @type {const} */ ([
  ['share.', 'share'], ['transfer.', 'transfer'], ['share.delivered', 'share_delivered'], ['share.closed', 'share_closed'],
]);

class LogScreen extends HTMLElement {
  #book;
  #isAdmin;
  #names;
  #type = '';
  #share = '';
  #tab = '';
  #top = element('div', { class: 'filters' });
  #pane = new Pane();
  #list = element('ol', { class: 'log-lines', reversed: true });
  #more = element('div', { class: 'more' });
  /** @type {string|null} */
  #cursor = null;
  #newest = 0;
  #turn = 0;
  #onLine = (/** @type {Event} */ event) => this.#heard(/** @type {CustomEvent} */ (event).detail);
  #onResync = () => this.#catchUp();

  /** @param {import('../places.js').Context} context */
  constructor({ session, book }) {
    super();
    this.#book = book;
    this.#isAdmin = session.scope === 'admin';
    this.#names = new ShareNames(book);
  }

  connectedCallback() {
    if (this.childElementCount === 0) this.append(this.#top, this.#pane.box, this.#more);
    this.#book.addEventListener('log', this.#onLine);
    this.#book.addEventListener('resynced', this.#onResync);
  }

  disconnectedCallback() {
    this.#book.removeEventListener('log', this.#onLine);
    this.#book.removeEventListener('resynced', this.#onResync);
  }

  /** @param {URLSearchParams} asked */
  show(asked) {
    this.#type = asked.get('type') ?? '';
    this.#share = asked.get('share') ?? '';
    this.#tab = this.#isAdmin && asked.get('tab') === 'audit' ? 'audit' : '';
    this.#showTop();
    this.#load();
  }

  #showTop() {
    const { log } = words;
    const link = (/** @type {string} */ name, /** @type {Record<string, string>} */ asked, /** @type {string} */ text, /** @type {boolean} */ isChosen) =>
      element('a', { class: name, href: addressOf('log', asked), 'aria-current': isChosen ? 'true' : undefined }, text);
    const tabs = this.#isAdmin && element('nav', { class: 'tabs', 'aria-label': log.tabs },
      link('tab', {}, log.events, this.#tab === ''), link('tab', { tab: 'audit' }, log.audit, this.#tab === 'audit'));
    const hadFocus = this.#top.contains(document.activeElement) ? /** @type {HTMLAnchorElement} */ (document.activeElement).hash : null;
    if (this.#tab === 'audit') {
      this.#top.replaceChildren(...[tabs, element('p', { class: 'lead muted' }, log.about_audit), this.#verifier()].filter((node) => node !== false));
    } else {
      const share = this.#share;
      const chips = element('nav', { class: 'chips', 'aria-label': log.kind },
        link('chip', { share }, words.screens.any, this.#type === ''),
        ...KINDS.map(([type, word]) => link('chip', { share, type }, log.kinds[word], this.#type === type)));
      const only = share !== '' && element('p', { class: 'only' }, this.#names.element(share),
        link('', { type: this.#type }, log.show_all, false));
      this.#top.replaceChildren(...[tabs, element('p', { class: 'lead muted' }, log.about), chips, only].filter((node) => node !== false));
    }
    if (hadFocus !== null) {
      const again = [...this.#top.querySelectorAll('a')].find(({ hash }) => hash === hadFocus);
      (again ?? this.#top.querySelector('a'))?.focus();
    }
  }

  #load() {
    this.#turn += 1;
    this.#newest = 0;
    this.#more.replaceChildren();
    const isAudit = this.#tab === 'audit';
    this.#pane.fill(() => this.#page(null), (page) => {
      this.#list = element('ol', { class: 'log-lines' });
      this.#add(page);
      if (this.#list.childElementCount > 0) return [this.#list];
      return [element('p', { class: 'nothing muted' }, this.#type || this.#share || isAudit ? words.log.empty_filtered : words.log.empty)];
    });
  }

  /** @param {string|null} cursor */
  async #page(cursor) {
    if (this.#tab === 'audit') return request('GET', '/audit', { query: { cursor, limit: PAGE } });
    return request('GET', '/events', { query: { order: 'newest', type: this.#type, share: this.#share, cursor, limit: PAGE } });
  }

  async #loadOlder(/** @type {HTMLButtonElement} */ button) {
    const turn = this.#turn;
    button.disabled = true;
    try {
      const page = await this.#page(this.#cursor);
      if (turn !== this.#turn) return;
      const before = this.#list.childElementCount;
      this.#add(page);
      const first = /** @type {HTMLElement|undefined} */ (this.#list.children[before]);
      first?.setAttribute('tabindex', '-1');
      first?.focus();
    } catch (error) {
      button.disabled = false;
      this.#more.append(element('p', { class: 'error', role: 'alert' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {{events?: LogLine[], lines?: AuditLine[], next_cursor: string|null}} page */
  #add({ events = [], lines = [], next_cursor: cursor }) {
    this.#cursor = cursor;
    this.#newest = Math.max(this.#newest, events[0]?.seq ?? 0);
    this.#list.append(...events.map((line) => this.#row(line)), ...lines.map((line) => this.#auditRow(line)));
    const older = element('button', { type: 'button', class: 'button', onclick: () => this.#loadOlder(older) }, words.screens.older);
    this.#more.replaceChildren(cursor ? older : '');
  }

  /** Takes a line that was just written. @param {LogLine} line */
  #heard(line) {
    // Before the first page is there it brings this line itself.
    if (this.#tab === 'audit' || this.#newest === 0 && this.#pane.box.getAttribute('aria-busy') === 'true') return;
    if (line.seq <= this.#newest || !this.#isWanted(line)) return;
    this.#newest = line.seq;
    if (!this.#list.isConnected) this.#pane.box.replaceChildren(this.#list);
    const row = this.#row(line);
    row.classList.add('is-new');
    this.#list.prepend(row);
    while (this.#list.childElementCount > MAX_LIVE && !this.#list.lastElementChild?.contains(document.activeElement)) this.#dropOldest();
  }

  #dropOldest() {
    this.#list.lastElementChild?.remove();
    this.#cursor = this.#list.lastElementChild?.getAttribute('data-seq') ?? this.#cursor;
  }

  /** @param {LogLine} line */
  #isWanted(line) {
    const fits = this.#type === '' || (this.#type.endsWith('.') ? line.type.startsWith(this.#type) : line.type === this.#type);
    return fits && (this.#share === '' || line.share === this.#share);
  }

  /** Reads what was written while nobody listened; where that is more than a page, the list begins anew. */
  async #catchUp() {
    if (this.#tab === 'audit' || this.#newest === 0 || document.hidden) return;
    const turn = this.#turn;
    try {
      const { events } = /** @type {{events: LogLine[]}} */ (await this.#page(null));
      if (turn !== this.#turn) return;
      const missed = events.filter(({ seq }) => seq > this.#newest);
      if (missed.length === events.length && events.length >= PAGE) this.#load();
      else missed.reverse().forEach((line) => this.#heard(line));
    } catch {
      // The page says itself that it has lost its server.
    }
  }

  /** @param {LogLine} line */
  #row(line) {
    const name = this.#share === '' ? element('a', { class: 'about small', href: addressOf('log', { share: line.share }) }, this.#names.element(line.share)) : undefined;
    return lineRow(line, name);
  }

  /** @param {AuditLine} line */
  #auditRow(line) {
    const { log } = words;
    const isRefused = line.detail.startsWith('refused');
    const action = line.action.replaceAll('.', '_');
    const known = Object.hasOwn(log.actions, action) ? log.actions[/** @type {keyof typeof log.actions} */ (action)] : line.action;
    const isShare = /^share\.|^transfer\./.test(line.action) && /^[0-9a-z]{10}$/.test(line.target);
    const isSession = line.action.startsWith('session.');
    // A session's own name says nothing to people.
    const target = isShare
      ? element('a', { href: addressOf('log', { share: line.target }), title: displayText(line.detail) }, this.#names.element(line.target))
      : !isSession && displayText(line.target);
    // Of what was made or closed it is the path, of which the name is there already.
    const isSaid = isShare && !isRefused && /^share\.(create|close|reopen)$/.test(line.action);
    const detail = line.action === 'session.sign_in' && !isRefused ? agentText(line.detail) : displayText(line.detail);
    return element('li', { class: 'log-line', 'data-seq': String(line.seq) },
      sign(isRefused ? 'bad' : actionSign(line.action), isRefused ? 'is-bad' : ''),
      element('div', { class: 'log-text' },
        element('p', {}, isRefused ? `${known}: ${log.refused}` : known),
        factLine(target, say(log.by, { who: displayText(line.who) }), line.from && say(log.from, { address: displayText(line.from) }),
          line.detail && !isSaid && element('span', { lang: 'en', title: displayText(line.detail) }, detail))),
      timeAgo(line.at));
  }

  #verifier() {
    const { log } = words;
    const verdict = element('p', { role: 'status', class: 'small' });
    const button = element('button', { type: 'button', class: 'button', onclick: async () => {
      button.disabled = true;
      verdict.className = 'small';
      verdict.textContent = log.verifying;
      try {
        const { is_intact: isIntact, lines } = await request('GET', '/audit/verify');
        verdict.className = isIntact ? 'small is-good' : 'small is-bad';
        verdict.textContent = isIntact ? say(log.intact, { n: lines }) : log.broken;
        announce(verdict.textContent);
      } catch (error) {
        verdict.textContent = /** @type {Error} */ (error).message;
      }
      button.disabled = false;
    } }, log.verify);
    return element('div', { class: 'verifier' }, button, verdict);
  }
}

/** @param {string} action @returns {import('./parts.js').Sign} */
function actionSign(action) {
  if (action.startsWith('session.')) return 'person';
  if (action.startsWith('token.')) return 'key';
  if (/close|stop|cleanup/.test(action)) return 'shut';
  if (/reopen|undo/.test(action)) return 'again';
  return action === 'share.extend' ? 'clock' : 'made';
}

customElements.define('log-screen', LogScreen);
export default LogScreen;
