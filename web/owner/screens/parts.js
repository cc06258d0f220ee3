// What the screens beside the files have in common: signs, a pane that loads, a question before what cannot be
// undone.

import { element, shape } from '../../shared/dom.js';
import { words } from '../../shared/words.js';

/** How long an answer may take before the page says that it waits: sooner, the words would only flicker. */
const PATIENCE_MS = 300;

const SIGNS = {
  good: 'M5 12.5l4.5 4.5L19 7.5',
  bad: 'M6.5 6.5l11 11M17.5 6.5l-11 11',
  warn: 'M12 4l9 16H3zM12 10v4M12 17v.5',
  clock: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 7.5V12l3 2',
  door: 'M6 21V4h12v17M3.5 21h17M14.5 12.5v.5',
  shut: 'M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z',
  made: 'M12 5v14M5 12h14',
  again: 'M4.5 12a7.5 7.5 0 1 0 2.5-5.5M4 4v4h4',
  eye: 'M2.5 12S6 6 12 6s9.5 6 9.5 6-3.5 6-9.5 6-9.5-6-9.5-6zM12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z',
  down: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  hand: 'M8 12V6.5a1.5 1.5 0 0 1 3 0V11V4.5a1.5 1.5 0 0 1 3 0V11V6a1.5 1.5 0 0 1 3 0v8a6 6 0 0 1-6 6.5c-3 0-4.5-1.5-6-4.5l-1.5-3c-.5-1.5 1.5-2.5 2.5-1z',
  person: 'M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4.5 20.5c.5-4 3.5-6 7.5-6s7 2 7.5 6',
  key: 'M8 9.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM11.5 11l8-7M16 7.5l2.5 2.5',
};

/** @typedef {keyof typeof SIGNS} Sign */

/**
 * Makes a small picture; what it says must stand beside it as text.
 * @param {Sign} name
 * @param {string} [kind] a class, for its colour
 */
export function sign(name, kind = '') {
  return shape('svg', { viewBox: '0 0 24 24', class: `icon sign ${kind}`, 'aria-hidden': 'true' }, shape('path', { d: SIGNS[name] }));
}

/** The sign and the colour of how a share ended. @param {string|null} outcome @returns {[Sign, string]} */
export function signOfOutcome(outcome) {
  switch (outcome) {
    case 'completed': return ['good', 'is-good'];
    case 'expired': return ['clock', 'is-quiet'];
    case 'revoked': return ['shut', 'is-quiet'];
    case 'timed_out':
    case 'stalled': return ['warn', 'is-warn'];
    default: return ['bad', 'is-bad'];
  }
}

/**
 * A part of a screen that is loaded: it says that it waits, shows what came, or why nothing did with a way to try again.
 * What was shown before stays until then, so that nothing jumps.
 */
export class Pane {
  box;
  #turn = 0;

  /** @param {HTMLElement} [box] */
  constructor(box = element('div')) {
    this.box = box;
    box.classList.add('pane');
  }

  /**
   * @template T
   * @param {() => Promise<T>} load
   * @param {(loaded: T) => (Node|string)[]} draw
   */
  async fill(load, draw) {
    this.#turn += 1;
    const turn = this.#turn;
    this.box.setAttribute('aria-busy', 'true');
    const timer = setTimeout(() => {
      if (turn === this.#turn && this.box.childElementCount === 0) this.box.append(element('p', { class: 'muted waiting', role: 'status' }, words.screens.loading));
    }, PATIENCE_MS);
    try {
      const loaded = await load();
      if (turn === this.#turn) this.box.replaceChildren(...draw(loaded));
    } catch (error) {
      if (turn === this.#turn) this.box.replaceChildren(this.#failure(/** @type {any} */ (error), () => this.fill(load, draw)));
    } finally {
      clearTimeout(timer);
      if (turn === this.#turn) this.box.setAttribute('aria-busy', 'false');
    }
  }

  /**
   * @param {{message: string, status?: number}} error
   * @param {() => void} again
   */
  #failure(error, again) {
    if (error.status === 403) return element('p', { class: 'muted' }, words.screens.not_allowed);
    return element('div', { class: 'failure' },
      element('p', { class: 'error', role: 'alert' }, error.message),
      element('button', { type: 'button', class: 'button', onclick: again }, words.shell.retry));
  }
}

/**
 * Asks before something is done.
 * @param {{title: string, text: string, yes: string}} question
 * @returns {Promise<boolean>}
 */
export function ask({ title, text, yes }) {
  return new Promise((resolve) => {
    const no = element('button', { type: 'button', class: 'button', onclick: () => dialog.close() }, words.shell.cancel);
    const really = element('button', { type: 'button', class: 'button danger', onclick: () => dialog.close('yes') }, yes);
    const heading = element('h2', { id: 'ask-title' }, title);
    const dialog = element('dialog', { class: 'ask', 'aria-labelledby': 'ask-title' },
      heading, element('p', {}, text), element('div', { class: 'ask-buttons' }, no, really));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}

/**
 * Makes a section with a heading, which takes the keyboard where what it stood on went away (`focusHeading`).
 * @param {string} id
 * @param {string} title
 * @param {...(Node|string|null|false)} children
 */
export function section(id, title, ...children) {
  return element('section', { class: 'card', id, 'aria-labelledby': `${id}-title` },
    element('h2', { id: `${id}-title`, tabIndex: -1 }, title), ...children);
}

/** Brings the keyboard to a section's heading. @param {string} id */
export function focusHeading(id) {
  document.getElementById(`${id}-title`)?.focus({ preventScroll: true });
}

/**
 * Makes a line of small facts, parted by dots.
 * @param {...(Node|string|null|undefined|false|'')} facts
 */
export function factLine(...facts) {
  return element('p', { class: 'facts muted small' }, ...facts.filter(Boolean).map((fact) => element('span', {}, /** @type {Node} */ (fact))));
}

/**
 * Writes filters as the address has them; those that say nothing are left out.
 * @param {string} place
 * @param {Record<string, string|null|undefined>} filters
 */
export function addressOf(place, filters) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) if (value) asked.set(name, value);
  const query = asked.toString();
  return `#!${place}${query && `?${query}`}`;
}
