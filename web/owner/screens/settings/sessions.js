// The signed-in browsers: which this one is, and an end to the others.

import { request } from '../../../shared/api.js';
import { announce, element } from '../../../shared/dom.js';
import { agentText, displayText } from '../../../shared/format.js';
import { timeAgo } from '../../../shared/time.js';
import { say, words } from '../../../shared/words.js';
import { Pane, ask, factLine, focusHeading, section, sign } from '../parts.js';

/**
 * @typedef {{id: string, created_at: string, last_seen_at: string, expires_at: string, address: string|null, agent: string,
 *   is_current: boolean}} Session
 */

export function sessionsSection() {
  const { settings } = words;
  const pane = new Pane();
  const error = element('p', { class: 'error', role: 'alert', hidden: true });
  /** @param {HTMLButtonElement} button @param {() => Promise<string>} work what is said when it is done */
  const run = async (button, work) => {
    button.disabled = true;
    error.hidden = true;
    try {
      announce(await work());
      await load();
      focusHeading('sessions');
    } catch (problem) {
      error.textContent = /** @type {Error} */ (problem).message;
      error.hidden = false;
      button.disabled = false;
    }
  };
  const others = element('button', { type: 'button', class: 'button danger', hidden: true, onclick: async () => {
    if (!await ask({ title: settings.sessions_ask, text: settings.sessions_ask_text, yes: settings.sessions_end })) return;
    await run(others, async () => say(settings.sessions_ended, { n: (await request('DELETE', '/sessions')).signed_out }));
  } }, settings.sessions_end);
  /** @type {() => Promise<void>} */
  const load = () => pane.fill(() => request('GET', '/sessions'), ({ sessions }) => {
    others.disabled = false;
    others.hidden = !sessions.some((/** @type {Session} */ { is_current: isCurrent }) => !isCurrent);
    if (sessions.length === 0) return [element('p', { class: 'nothing muted' }, settings.no_sessions)];
    return [element('ul', { class: 'people' }, ...sessions.map((/** @type {Session} */ session) => row(session, run)))];
  });
  load();
  return section('sessions', settings.sessions,
    element('div', { class: 'card-head' }, element('p', { class: 'muted' }, settings.sessions_about), others), error, pane.box);
}

/**
 * @param {Session} session
 * @param {(button: HTMLButtonElement, work: () => Promise<string>) => Promise<void>} run
 */
function row(session, run) {
  const { settings } = words;
  const name = agentText(session.agent);
  const end = element('button', {
    type: 'button', class: 'button', 'aria-label': say(settings.session_end_named, { name }), onclick: () => run(end, async () => {
      await request('DELETE', `/sessions/${encodeURIComponent(session.id)}`);
      return say(settings.session_ended, { name });
    }),
  }, settings.session_end);
  return element('li', {},
    sign('person', session.is_current ? 'is-accent' : ''),
    element('div', { class: 'person-text' },
      element('p', { title: displayText(session.agent) }, name, session.is_current && element('span', { class: 'badge' }, settings.this_one)),
      factLine(
        session.address === null ? settings.on_this_machine : displayText(session.address),
        element('span', {}, `${settings.seen} `, timeAgo(session.last_seen_at)),
        element('span', {}, `${settings.signed_in} `, timeAgo(session.created_at)))),
    session.is_current ? '' : end);
}
