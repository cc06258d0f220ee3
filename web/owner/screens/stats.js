// What was shared and delivered over a span of days: figures, plots, ranks.

import { request } from '../../shared/api.js';
import { element } from '../../shared/dom.js';
import { displayText, sizeText } from '../../shared/format.js';
import { plotOf, rankBar } from '../../shared/plot.js';
import { language, say, words } from '../../shared/words.js';
import { Pane, addressOf, section, sign, signOfOutcome } from './parts.js';
import { bundled } from './spans.js';
import { outcomeText } from './sentences.js';
import './style.js';

/** @typedef {import('./spans.js').Day} Day */
/**
 * @typedef {{from: string, to: string, days: Day[],
 *   shares: {made: number, closed: number, outcomes: Record<string, number>, success_percent: number|null},
 *   transfers: {redeemed: number, completed: number, delivered_bytes: number, median_bytes_per_second: number|null},
 *   top_files: {path: string, name: string, downloads: number, delivered_bytes: number}[],
 *   networks: {network: string, downloads: number, delivered_bytes: number}[]}} Stats
 */

const SPANS = [7, 30, 90, 365];
const DEFAULT_SPAN = 30;
const DAY_MS = 24 * 3600 * 1000;

const dayFormat = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short', timeZone: 'UTC' });
const longFormat = new Intl.DateTimeFormat(language, { dateStyle: 'long', timeZone: 'UTC' });

class StatsScreen extends HTMLElement {
  #spans = element('nav', { class: 'chips', 'aria-label': words.stats.span });
  #about = element('p', { class: 'muted small', role: 'status' });
  #pane = new Pane();

  connectedCallback() {
    if (this.childElementCount === 0) this.append(element('div', { class: 'filters' }, this.#spans), this.#about, this.#pane.box);
  }

  /** @param {URLSearchParams} asked */
  show(asked) {
    const today = Math.floor(Date.now() / DAY_MS);
    const end = dayNumber(asked.get('to')) ?? today;
    const start = Math.min(end, dayNumber(asked.get('from')) ?? end - DEFAULT_SPAN + 1);
    const hadFocus = this.#spans.contains(document.activeElement);
    this.#spans.replaceChildren(...SPANS.map((days) => {
      const isChosen = end - start + 1 === days && end === today;
      const filters = days === DEFAULT_SPAN ? {} : { from: dayText(today - days + 1), to: dayText(today) };
      return element('a', { class: 'chip', href: addressOf('stats', filters), 'aria-current': isChosen ? 'true' : undefined },
        days === 365 ? words.stats.year : say(words.stats.days, { n: days }));
    }));
    if (hadFocus) /** @type {HTMLElement|null} */ (this.#spans.querySelector('[aria-current]'))?.focus();
    this.#pane.fill(() => request('GET', '/stats', { query: { from: dayText(start), to: dayText(end) } }), (stats) => this.#draw(stats));
  }

  /** @param {Stats} stats */
  #draw(stats) {
    const { stats: says } = words;
    this.#about.textContent = say(says.from_to, { from: longFormat.format(new Date(stats.from)), to: longFormat.format(new Date(stats.to)) });
    const { shares, transfers } = stats;
    if (shares.made === 0 && shares.closed === 0 && transfers.redeemed === 0) return [element('p', { class: 'nothing muted' }, says.empty)];
    return [
      figures(stats),
      element('div', { class: 'plots' }, ...plots(stats).map((plot) => element('div', { class: 'card' }, plotOf(plot))), outcomes(shares.outcomes)),
      element('div', { class: 'plots' },
        ranks('top-files', says.top_files, stats.top_files.map(({ path, name, ...rest }) => ({ name, title: path, ...rest }))),
        ranks('networks', says.networks, stats.networks.map(({ network, ...rest }) => ({ name: network, title: network, ...rest })))),
    ];
  }
}

/** @param {Stats} stats */
function figures({ shares, transfers }) {
  const { stats } = words;
  const speed = transfers.median_bytes_per_second;
  const figure = (/** @type {string} */ value, /** @type {string} */ label) =>
    element('div', { class: 'figure' }, element('dd', {}, value), element('dt', {}, label));
  return element('dl', { class: 'figures', 'aria-label': stats.figures },
    figure(shares.made.toLocaleString(language), stats.made),
    figure(sizeText(transfers.delivered_bytes), stats.delivered),
    figure(shares.success_percent === null ? '–' : `${shares.success_percent} %`, stats.success),
    figure(speed === null ? '–' : `${sizeText(speed)}/s`, stats.speed));
}

/**
 * @param {Stats} stats
 * @returns {import('../../shared/plot.js').Plot[]}
 */
function plots({ days, shares, transfers }) {
  const { stats } = words;
  const bundles = bundled(days);
  const isWeekly = bundles.some(({ days: length }) => length > 1);
  const heads = {
    when: isWeekly ? words.screens.week : words.screens.when, value: stats.value, table: stats.as_table, read: stats.how_to_read,
  };
  /**
   * @param {(bundle: import('./spans.js').Bundle) => number|null} valueOf
   * @param {(value: number) => string} write
   */
  const points = (valueOf, write) => bundles.map((bundle) => {
    const value = valueOf(bundle);
    const label = dayFormat.format(new Date(bundle.first));
    const when = bundle.days === 1 ? longFormat.format(new Date(bundle.first)) : `${label} – ${dayFormat.format(new Date(bundle.last))}`;
    return { label, value, text: value === null ? say(stats.no_value, { when }) : say(stats.value_at, { when, value: write(value) }) };
  });
  const speed = (/** @type {number} */ value) => `${sizeText(Math.round(value))}/s`;
  const percent = (/** @type {number} */ value) => `${Math.round(value)} %`;
  const most = bundles.reduce((highest, bundle) => (bundle.deliveredBytes > highest.deliveredBytes ? bundle : highest));
  /** @type {import('../../shared/plot.js').Plot[]} */
  const made = [{
    title: isWeekly ? stats.bytes_per_week : stats.bytes_per_day, kind: 'bars', words: heads, write: sizeText,
    points: points((bundle) => bundle.deliveredBytes, sizeText),
    summary: say(stats.bytes_summary, { total: sizeText(transfers.delivered_bytes), most: sizeText(most.deliveredBytes), when: dayFormat.format(new Date(most.first)) }),
  }];
  // Servers of older versions do not say these by the day.
  if (bundles.some(({ successPercent }) => successPercent !== null)) {
    made.push({
      title: stats.success_rate, kind: 'line', limit: 100, words: heads, write: percent, points: points((bundle) => bundle.successPercent, percent),
      summary: say(stats.success_summary, { percent: shares.success_percent ?? 0 }),
    });
  }
  if (bundles.some(({ bytesPerSecond }) => bytesPerSecond !== null)) {
    made.push({
      title: stats.median_speed, kind: 'line', words: heads, write: speed, points: points((bundle) => bundle.bytesPerSecond, speed),
      summary: say(stats.speed_summary, { speed: sizeText(transfers.median_bytes_per_second ?? 0) }),
    });
  }
  return made;
}

/** @param {Record<string, number>} counts */
function outcomes(counts) {
  const { stats, history } = words;
  const some = Object.entries(counts).sort(([, one], [, other]) => other - one);
  const highest = Math.max(0, ...some.map(([, n]) => n));
  if (some.length === 0) return section('outcomes', stats.outcomes, element('p', { class: 'muted' }, stats.outcomes_empty));
  const rows = some.map(([outcome, n]) => {
    const [name, kind] = signOfOutcome(outcome);
    return element('li', {}, element('p', { class: 'rank-name' }, sign(name, kind), outcomeText(outcome)),
      element('a', { class: 'rank-value', href: addressOf('history', { outcome }), 'aria-label': `${outcomeText(outcome)}: ${say(history.found, { n })}` }, n.toLocaleString(language)),
      rankBar(n, highest, kind));
  });
  return section('outcomes', stats.outcomes, element('ul', { class: 'ranks' }, ...rows));
}

/**
 * @param {string} id
 * @param {string} title
 * @param {{name: string, title: string, downloads: number, delivered_bytes: number}[]} items
 */
function ranks(id, title, items) {
  const { stats, history } = words;
  if (items.length === 0) return section(id, title, element('p', { class: 'muted' }, stats.nobody));
  const highest = Math.max(...items.map(({ downloads }) => downloads));
  const rows = items.map(({ name, title: whole, downloads, delivered_bytes: bytes }) => element('li', {},
    element('p', { class: 'rank-name', title: displayText(whole) }, element('bdi', {}, displayText(name))),
    element('p', { class: 'rank-value muted' }, say(stats.rank_value, { downloads: say(history.downloads, { n: downloads }), size: sizeText(bytes) })),
    rankBar(downloads, highest)));
  return section(id, title, element('ol', { class: 'ranks' }, ...rows));
}

/** @param {string|null} day as `2026-11-01` */
function dayNumber(day) {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(day ?? '') ? Date.parse(`${day}T00:00:00Z`) : NaN;
  return Number.isNaN(at) ? null : at / DAY_MS;
}

/** @param {number} day counted from 1970 */
function dayText(day) {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

customElements.define('stats-screen', StatsScreen);
export default StatsScreen;
