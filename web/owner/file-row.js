// One row of the files: what it is, and the ways to share it.

import { element, icon, iconOf } from '../shared/dom.js';
import { dateText, displayText, highlighted, parentPath, sizeText, timeText } from '../shared/format.js';
import { say, words } from '../shared/words.js';

/**
 * @typedef {{path: string, name: string, kind: 'file'|'folder', size_bytes: number, modified: string, mime_type: string|null,
 *   highlights?: [number, number][], changing?: boolean, files?: number|null, total_bytes?: number|null,
 *   shared_at?: string, shares?: number}} Entry
 */
/**
 * What can be done with a row.
 * @typedef {{folderLink: (path: string, properties: Record<string, any>, ...children: (Node|string)[]) => HTMLElement,
 *   share: (entry: Entry, from: HTMLElement) => void, options: (entry: Entry) => void, isSelected: (entry: Entry) => boolean,
 *   select: (entry: Entry, isSelected: boolean) => void}} Actions
 */

/**
 * Builds a row. What takes the keyboard has the class `key`: a folder's link, or a file's box.
 * @param {Entry} entry
 * @param {Actions} actions
 * @param {{showsPlace?: boolean}} [options] whether the folder is told
 */
export function fileRow(entry, actions, { showsPlace = false } = {}) {
  return entry.kind === 'folder' ? folderRow(entry, actions, showsPlace) : shareableRow(entry, actions, showsPlace);
}

/**
 * @param {Entry} entry
 * @param {Actions} actions
 * @param {boolean} showsPlace
 */
function folderRow(entry, actions, showsPlace) {
  const total = entry.total_bytes ?? null;
  return actions.folderLink(entry.path, { class: 'row key' },
    icon('folder'), title(entry, showsPlace, entry.files == null ? null : say(words.find.inside, { n: entry.files })),
    element('span', { class: 'size' }, total === null ? '' : sizeText(total)), modified(entry), element('span', { class: 'go', 'aria-hidden': 'true' }, '›'));
}

/**
 * @param {Entry} entry
 * @param {Actions} actions
 * @param {boolean} showsPlace
 */
function shareableRow(entry, actions, showsPlace) {
  const name = displayText(entry.name);
  const box = element('input', {
    type: 'checkbox', class: 'key', checked: actions.isSelected(entry), 'aria-label': `${name}, ${sizeText(entry.size_bytes)}`, title: say(words.find.select_named, { name }),
    onchange: () => {
      actions.select(entry, box.checked);
      // There may be too many.
      box.checked = actions.isSelected(entry);
    },
  });
  const share = element('button', {
    type: 'button', class: 'button small', tabIndex: -1, 'data-do': 'share', 'aria-label': say(words.find.share_named, { name }), onclick: () => actions.share(entry, share),
  }, words.find.share);
  const options = element('button', {
    type: 'button', class: 'button quiet small', tabIndex: -1, 'data-do': 'options', title: words.find.options, 'aria-label': say(words.find.options_named, { name }), onclick: () => actions.options(entry),
  }, '⋯');
  return element('div', { class: 'row' },
    element('label', { class: 'pick' }, box, icon(iconOf(entry.mime_type))),
    title(entry, showsPlace, entry.shared_at === undefined ? null : say(words.find.shares, { n: entry.shares ?? 1 }), () => actions.options(entry)),
    element('span', { class: 'size' }, sizeText(entry.size_bytes)), modified(entry), share, options);
}

/**
 * @param {Entry} entry
 * @param {boolean} showsPlace
 * @param {string|null} fact
 * @param {() => void} [onclick]
 */
function title(entry, showsPlace, fact, onclick) {
  const text = highlighted(entry.name, entry.highlights ?? []).map((part) => (part.matched ? element('mark', {}, part.text) : part.text));
  const name = element('span', { class: onclick ? 'name opens' : 'name', dir: 'auto', title: displayText(entry.name), onclick }, ...text);
  const badge = entry.changing && element('span', { class: 'badge', title: words.find.changing_why }, words.find.changing);
  const facts = [showsPlace ? displayText(parentPath(entry.path)) || words.find.all : null, fact].filter((part) => part !== null);
  const where = (badge || facts.length > 0) && element('span', { class: 'where', dir: 'auto' }, badge, facts.join(' · '));
  return element('span', { class: 'title' }, name, where);
}

/** @param {Entry} entry */
function modified(entry) {
  const at = new Date(entry.modified);
  const now = new Date();
  const text = dateText(at, now);
  return element('span', { class: 'modified' }, text && element('time', { dateTime: entry.modified, title: timeText(at, now) }, text));
}
