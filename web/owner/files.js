// The files of the NAS: folder by folder, or found by search as the owner types.

import { request } from '../shared/api.js';
import { element, icon, iconOf } from '../shared/dom.js';
import { dateText, displayText, highlighted, parentPath, sizeText } from '../shared/format.js';
import { PagedList } from './paged-list.js';

/**
 * @typedef {{path: string, name: string, kind: 'file'|'folder', size_bytes: number, modified: string, mime_type: string|null,
 *   highlights?: [number, number][]}} Entry
 */

/** How many entries one request brings: two or three windows full. */
const PAGE = 200;
/** How long the owner may pause within a word before the search is sent. */
const TYPING_MS = 120;

export class FileBrowser {
  #tools;
  #onPick;
  #list;
  #path = '';
  #timer = 0;

  /**
   * @param {HTMLElement} box
   * @param {{search: HTMLInputElement, sort: HTMLSelectElement, trail: HTMLElement, count: HTMLElement}} tools
   * @param {(entry: Entry) => void} onPick a file was chosen to be shared
   */
  constructor(box, tools, onPick) {
    this.#tools = tools;
    this.#onPick = onPick;
    this.#list = new PagedList(box, (/** @type {Entry} */ entry) => this.#row(entry));
  }

  start() {
    const { search, sort } = this.#tools;
    search.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#show(), TYPING_MS);
    });
    search.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' || event.key === 'ArrowDown') {
        event.preventDefault();
        this.#list.focusFirst();
      }
    });
    sort.addEventListener('change', () => this.#show());
    document.addEventListener('keydown', (event) => this.#shortcut(event));
    window.addEventListener('hashchange', () => this.#goToHash());
    this.#goToHash();
  }

  /** The folder stands in the address: back, forward and reload work. */
  #goToHash() {
    this.#path = pathOfHash(location.hash);
    this.#tools.search.value = '';
    this.#show();
  }

  async #show() {
    const { search, sort, count } = this.#tools;
    const query = search.value.trim();
    sort.disabled = query !== '';
    this.#showTrail(query);
    const path = this.#path;
    await this.#list.show({
      load: async (cursor, signal) => {
        const where = query ? { query } : { path, sort: sort.value };
        if (cursor === null) count.textContent = '';
        const page = await request('GET', '/files', { query: { ...where, cursor, limit: PAGE }, signal });
        count.textContent = countText(page, query);
        return { items: page.entries, cursor: page.next_cursor, total: page.total };
      },
      empty: () => (query ? `Nothing is called “${query}”.` : 'This folder is empty.'),
    });
  }

  /** @param {string} query */
  #showTrail(query) {
    const names = this.#path === '' ? [] : this.#path.split('/');
    const step = (/** @type {string} */ path, /** @type {Node|string} */ name) => {
      const isHere = path === this.#path && query === '';
      return element('li', {}, this.#folderLink(path, { 'aria-current': isHere ? 'page' : undefined }, name));
    };
    const trail = element('ol', {}, step('', 'All files'), ...names.map((name, index) =>
      step(names.slice(0, index + 1).join('/'), element('bdi', {}, displayText(name)))));
    this.#tools.trail.replaceChildren(trail);
  }

  /** @param {Entry} entry */
  #row(entry) {
    const isFolder = entry.kind === 'folder';
    const isFound = entry.highlights !== undefined && this.#tools.search.value.trim() !== '';
    const name = element('span', { class: 'name', dir: 'auto', title: displayText(entry.name) }, ...highlighted(entry.name, entry.highlights ?? []).map((part) =>
      (part.matched ? element('mark', {}, part.text) : part.text)));
    const where = isFound && element('span', { class: 'where', dir: 'auto' }, displayText(parentPath(entry.path)) || 'All files');
    const size = element('span', { class: 'size' }, isFolder ? '' : sizeText(entry.size_bytes));
    const modified = element('span', { class: 'modified' }, dateText(new Date(entry.modified), new Date()));
    const inside = [icon(isFolder ? 'folder' : iconOf(entry.mime_type)), element('span', { class: 'title' }, name, where), size, modified];
    if (isFolder) return this.#folderLink(entry.path, { class: 'row' }, ...inside, element('span', { class: 'go', 'aria-hidden': 'true' }, '›'));
    return element('button', { type: 'button', class: 'row', onclick: () => this.#onPick(entry) }, ...inside, element('span', { class: 'go' }, 'Share'));
  }

  /**
   * Makes a link to a folder. To the one that is shown already it is no change of the address, but must end a search.
   * @param {string} path
   * @param {Record<string, any>} properties
   * @param {...(Node|string)} children
   */
  #folderLink(path, properties, ...children) {
    const href = hashOfPath(path);
    const onclick = (/** @type {Event} */ event) => {
      if (href !== (location.hash || '#/')) return;
      event.preventDefault();
      this.#goToHash();
    };
    return element('a', { ...properties, href, onclick }, ...children);
  }

  /** @param {KeyboardEvent} event */
  #shortcut(event) {
    const { search } = this.#tools;
    const isTyping = /** @type {HTMLElement} */ (event.target).matches('input, select, textarea') || document.querySelector('dialog[open]');
    if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === 'Escape' && event.target === search && search.value === '') {
      search.blur();
    } else if (event.key === 'ArrowUp' && event.altKey && !isTyping && this.#path !== '') {
      event.preventDefault();
      location.hash = hashOfPath(parentPath(this.#path));
    }
  }
}

/**
 * @param {{entries: Entry[], total: number|null, index: {building: boolean, files: number, truncated: boolean}|null}} page
 * @param {string} query
 */
function countText({ entries, total, index }, query) {
  const number = (/** @type {number} */ n) => n.toLocaleString('en');
  const found = total ?? entries.length;
  if (query === '') return `${number(found)} ${found === 1 ? 'entry' : 'entries'}`;
  const text = entries.length < PAGE ? `${number(found)} found` : `The best ${number(found)} are shown`;
  if (index?.building) return `${text}. The NAS is still being read (${number(index.files)} files so far); there may be more.`;
  if (index?.truncated) return `${text} among the first ${number(index.files)} files; the rest can be found by folder.`;
  return text;
}

/** @param {string} path */
function hashOfPath(path) {
  return `#/${path.split('/').map(encodeURIComponent).join('/')}`;
}

/** @param {string} hash */
function pathOfHash(hash) {
  if (!hash.startsWith('#/')) return '';
  try {
    return hash.slice(2).split('/').map(decodeURIComponent).join('/');
  } catch {
    // An address that somebody typed by hand.
    return '';
  }
}
