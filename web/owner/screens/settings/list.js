// Every setting: what holds, who said so, what it does.

import { request } from '../../../shared/api.js';
import { element } from '../../../shared/dom.js';
import { displayText } from '../../../shared/format.js';
import { help, say, words } from '../../../shared/words.js';
import { Pane, factLine, section } from '../parts.js';

/**
 * @typedef {{name: string, flag: string|null, value: string|null, default: string|null, is_set: boolean, is_secret: boolean,
 *   by_file: string|null, origin: string, origin_text: string, help: string, unit: string|null, reloads: boolean}} Setting
 */

export function listSection() {
  const { settings } = words;
  const pane = new Pane();
  const found = element('p', { class: 'muted small', role: 'status' });
  const filter = element('input', { type: 'search', id: 'settings-filter', autocomplete: 'off', spellcheck: false, maxLength: 100, oninput: () => show() });
  const onlySet = element('input', { type: 'checkbox', id: 'settings-set', onchange: () => show() });
  const none = element('p', { class: 'nothing muted', hidden: true }, settings.none_found);
  /** @type {[Setting, HTMLElement][]} */
  let rows = [];
  const show = () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    let n = 0;
    for (const [setting, row] of rows) {
      const text = [setting.name, setting.flag, row.textContent].join(' ').toLowerCase();
      row.hidden = !wanted.every((part) => text.includes(part)) || (onlySet.checked && setting.origin === 'default');
      n += row.hidden ? 0 : 1;
    }
    none.hidden = n > 0;
    found.textContent = say(settings.found, { n });
  };
  const load = async () => ({ ...await request('GET', '/settings'), known: (await help()).settings });
  pane.fill(load, ({ settings: all, notes = [], known }) => {
    rows = all.map((/** @type {Setting} */ setting) => [setting, row(setting, known[setting.name])]);
    show();
    return [
      ...notes.map((/** @type {string} */ note) => element('p', { class: 'note-box', lang: 'en' }, displayText(note))),
      element('ul', { class: 'settings' }, ...rows.map(([, shown]) => shown)), none,
    ];
  });
  return section('all-settings', settings.list, element('p', { class: 'muted' }, settings.list_about),
    element('div', { class: 'fields' },
      element('div', { class: 'field wide' }, element('label', { for: filter.id }, settings.filter), filter),
      element('div', { class: 'switch' }, onlySet, element('label', { for: onlySet.id }, settings.only_set))),
    found, pane.box);
}

/**
 * @param {Setting} setting
 * @param {string|undefined} said what it does, in the reader's language, where that is known
 */
function row(setting, said) {
  const { settings } = words;
  const { name, flag, default: preset, help: about, reloads } = setting;
  const isDefault = setting.origin === 'default';
  return element('li', { class: isDefault ? 'setting' : 'setting is-set' },
    element('div', { class: 'setting-head' },
      element('h3', {}, element('code', {}, name)),
      element('p', { class: 'value' }, valueOf(setting))),
    said === undefined ? element('p', { class: 'help', lang: 'en' }, about) : element('p', { class: 'help' }, said),
    factLine(originOf(setting), !isDefault && preset !== null && say(settings.default, { value: preset }), flag && element('code', {}, flag),
      reloads ? settings.reloads : settings.restart));
}

/** Returns whether a secret was made on the first run: nobody set it, and its origin is told in other words. @param {Setting} setting */
function isMade({ is_secret: isSecret, origin, origin_text: text }) {
  return isSecret && origin === 'default' && text !== origin;
}

/** @param {Setting} setting */
function valueOf(setting) {
  const { settings } = words;
  const { value, is_secret: isSecret, is_set: isSet } = setting;
  if (isSecret) return element('em', {}, isMade(setting) ? settings.secret_made : isSet ? settings.secret_set : settings.no_value);
  if (value === null || value === '') return element('em', { class: 'muted' }, settings.no_value);
  return element('code', {}, displayText(value));
}

/** @param {Setting} setting */
function originOf(setting) {
  const { origins } = words.settings;
  const { origin, origin_text: text, by_file: byFile } = setting;
  const name = isMade(setting) ? 'itself' : origin;
  const said = Object.hasOwn(origins, name) ? origins[/** @type {keyof typeof origins} */ (name)] : text;
  // Which file and line, or which variable names the secret's file.
  const where = origin === 'file' && text !== origin ? text : byFile;
  return element('span', {}, where ? `${said} (${displayText(where)})` : said);
}
