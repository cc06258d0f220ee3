// Whether all is as it should be, every setting, and who may come in.

import { BASE, request } from '../../shared/api.js';
import { announce, element } from '../../shared/dom.js';
import { say, words } from '../../shared/words.js';
import { ask, section } from './parts.js';
import { checkSection } from './settings/check.js';
import { listSection } from './settings/list.js';
import { selfTestSection } from './settings/self-test.js';
import { sessionsSection } from './settings/sessions.js';
import { tokensSection } from './settings/tokens.js';
import './style.js';

class SettingsScreen extends HTMLElement {
  #session;
  #book;
  #doors = element('button', { type: 'button', class: 'button danger', onclick: () => this.#closeAll() }, words.settings.doors);
  #doorsSaid = element('p', { class: 'small', role: 'status' });
  #onChange = () => this.#showDoors();

  /** @param {import('../places.js').Context} context */
  constructor({ session, book }) {
    super();
    this.#session = session;
    this.#book = book;
  }

  connectedCallback() {
    if (this.childElementCount === 0) this.#build();
    this.#book.addEventListener('change', this.#onChange);
    this.#showDoors();
  }

  disconnectedCallback() {
    this.#book.removeEventListener('change', this.#onChange);
  }

  show() {}

  #build() {
    const { settings } = words;
    const { scope, version } = this.#session;
    const isAdmin = scope === 'admin';
    const mayShare = scope !== 'read';
    this.append(
      isAdmin ? checkSection() : '',
      element('div', { class: 'two' },
        mayShare ? selfTestSection() : '',
        mayShare ? section('doors-section', settings.doors, element('p', { class: 'muted' }, settings.doors_about), this.#doors, this.#doorsSaid) : ''),
      isAdmin ? tokensSection() : '',
      isAdmin ? sessionsSection() : '',
      isAdmin ? listSection() : section('all-settings', settings.list, element('p', { class: 'muted' }, words.screens.not_allowed)),
      section('about', settings.about, element('p', { class: 'facts' },
        element('span', {}, say(settings.version, { version })),
        element('a', { href: new URL(`${BASE}/../docs`, location.href).href }, settings.api))));
  }

  #showDoors() {
    const open = this.#book.living.size;
    this.#doors.disabled = open === 0;
    if (open === 0 && this.#doorsSaid.childElementCount === 0) this.#doorsSaid.textContent = words.settings.doors_none;
    else if (open > 0 && this.#doorsSaid.textContent === words.settings.doors_none) this.#doorsSaid.textContent = '';
  }

  async #closeAll() {
    const { settings } = words;
    const n = this.#book.living.size;
    if (!await ask({ title: settings.doors_ask, text: say(settings.doors_text, { n }), yes: settings.doors })) return;
    this.#doors.disabled = true;
    try {
      const { closing } = await request('DELETE', '/shares');
      this.#doorsSaid.textContent = say(settings.doors_closed, { n: closing });
      announce(this.#doorsSaid.textContent);
      // They may have closed before the answer was here: nothing else would tell of it.
      if (this.#book.living.size === 0) this.#showDoors();
    } catch (error) {
      this.#doorsSaid.replaceChildren(element('span', { class: 'error', role: 'alert' }, /** @type {Error} */ (error).message));
      this.#doors.disabled = false;
    }
  }
}

customElements.define('settings-screen', SettingsScreen);
export default SettingsScreen;
