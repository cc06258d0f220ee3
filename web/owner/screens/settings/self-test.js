// The self-test: a real share of one byte, and how long each step of it took.

import { request } from '../../../shared/api.js';
import { announce, element } from '../../../shared/dom.js';
import { rankBar } from '../../../shared/plot.js';
import { say, words } from '../../../shared/words.js';
import { Pane, section, sign } from '../parts.js';

/** @typedef {{passed: boolean, by: 'public'|'local', note?: string|null, steps: {name: string, duration_ms: number, ok: boolean, problem: string|null}[]}} Verdict */

export function selfTestSection() {
  const { selftest } = words;
  const pane = new Pane();
  const button = element('button', { type: 'button', class: 'button', onclick: async () => {
    button.disabled = true;
    button.textContent = selftest.running;
    announce(selftest.running);
    await pane.fill(() => request('POST', '/self-test'), (verdict) => {
      announce(verdictText(verdict));
      return shown(verdict);
    });
    button.disabled = false;
    button.textContent = selftest.run;
  } }, selftest.run);
  return section('self-test', selftest.title, element('p', { class: 'muted' }, selftest.about), button, pane.box);
}

/** @param {string} name */
function stepText(name) {
  const { steps } = words.selftest;
  return Object.hasOwn(steps, name) ? steps[/** @type {keyof typeof steps} */ (name)] : name;
}

/** @param {Verdict} verdict */
function verdictText({ passed, by, steps }) {
  const { selftest } = words;
  if (!passed) return say(selftest.failed, { step: stepText(steps.find(({ ok }) => !ok)?.name ?? '') });
  return by === 'public' ? selftest.passed_public : selftest.passed_local;
}

/** @param {Verdict} verdict */
function shown(verdict) {
  const { selftest } = words;
  const { passed, steps, note } = verdict;
  const longest = Math.max(1, ...steps.map(({ duration_ms: ms }) => ms));
  const whole = steps.reduce((sum, { duration_ms: ms }) => sum + ms, 0);
  return [
    element('p', { class: 'verdict' }, sign(passed ? 'good' : 'bad', passed ? 'is-good' : 'is-bad'), element('strong', {}, verdictText(verdict))),
    note ? element('p', { class: 'small', lang: 'en' }, note) : '',
    element('ol', { class: 'ranks steps' }, ...steps.map(({ name, ok, duration_ms: ms, problem }) => element('li', {},
      element('p', { class: 'rank-name' }, sign(ok ? 'good' : 'bad', ok ? 'is-good' : 'is-bad'), stepText(name),
        element('span', { class: 'unseen' }, `, ${ok ? selftest.ok : selftest.wrong}`)),
      element('p', { class: 'rank-value muted' }, say(selftest.ms, { ms })),
      rankBar(ms, longest, ok ? '' : 'is-bad'),
      problem && element('p', { class: 'problem error', lang: 'en' }, problem)))),
    element('p', { class: 'muted small' }, say(selftest.whole, { ms: whole })),
  ];
}
