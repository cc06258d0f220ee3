// The files of the NAS: found by search as the owner types, or folder by folder.

import { request } from '../shared/api.js';
import { element } from '../shared/dom.js';
import { displayText, numberText, parentPath } from '../shared/format.js';
import { say, words } from '../shared/words.js';
import { fileRow } from './file-row.js';
import { Filters } from './filters.js';
import { PagedList } from './paged-list.js';
import { RecentFiles } from './recent.js';
import { Selection } from './selection.js';

/** @typedef {import('./file-row.js').Entry} Entry */

/** How many entries one request brings: two or three windows full. */
const PAGE = 200;
/** How long the owner may pause within a word before the search is sent; the one before it is given up then. */
const TYPING_MS = 40;

export class FileBrowser {
  #boxes;
  #doing;
  #list;
  #filters = new Filters(() => this.#show());
  #selection;
  #recent;
  #path = '';
  #timer = 0;
  /** @type {Promise<void>} settles when what was typed last is shown */
  #shown = Promise.resolve();
  /** @type {Entry|null} what Enter acts on */
  #first = null;
  /** @type {import('./file-row.js').Actions} */
  #actions;

  /**
   * @param {{list: HTMLElement, search: HTMLInputElement, filters: HTMLElement, hint: HTMLElement, trail: HTMLElement, count: HTMLElement,
   *   recent: HTMLElement, bulk: HTMLElement}} boxes
   * @param {{share: (entries: Entry[], from: HTMLElement) => void, options: (entries: Entry[]) => void}} doing what is done with files
   */
  constructor(boxes, doing) {
    this.#boxes = boxes;
    this.#doing = doing;
    this.#actions = {
      folderLink: (path, properties, ...children) => this.#folderLink(path, properties, ...children),
      share: (entry, from) => doing.share([entry], from),
      options: (entry) => doing.options([entry]),
      isSelected: (entry) => this.#selection.has(entry),
      select: (entry, isSelected) => this.#selection.set(entry, isSelected),
    };
    this.#list = new PagedList(boxes.list, (/** @type {Entry} */ entry) => fileRow(entry, this.#actions, { showsPlace: this.#isSearch }));
    this.#recent = new RecentFiles(boxes.recent, this.#actions);
    this.#selection = new Selection(boxes.bulk, { ...doing, cleared: () => this.#uncheck() });
    boxes.filters.replaceChildren(...this.#filters.box.childNodes);
  }

  start() {
    const { search, list } = this.#boxes;
    search.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#shown = new Promise((resolve) => { this.#timer = setTimeout(() => resolve(this.#show()), TYPING_MS); });
    });
    search.addEventListener('keydown', (event) => this.#searchKey(event));
    for (const box of [list, this.#boxes.recent]) {
      box.addEventListener('above', () => search.focus());
      box.addEventListener('keydown', (event) => this.#rowKey(event));
    }
    document.addEventListener('keydown', (event) => this.#shortcut(event));
    addEventListener('hashchange', () => this.#goToHash());
    this.#goToHash();
    if (document.activeElement === document.body) search.focus({ preventScroll: true });
  }

  /** Forgets what was selected, as after it was shared. */
  clearSelection() {
    this.#selection.clear();
  }

  get #query() {
    return this.#boxes.search.value.trim();
  }

  get #isSearch() {
    return this.#query !== '';
  }

  /** The folder stands in the address: back, forward and reload work. */
  #goToHash() {
    if (location.hash.startsWith('#!')) return;
    this.#path = pathOfHash(location.hash);
    this.#boxes.search.value = '';
    this.#show();
  }

  async #show() {
    const query = this.#query;
    const isSearch = query !== '';
    this.#filters.forSearch(isSearch);
    this.#boxes.list.closest('.home')?.classList.toggle('searching', isSearch);
    this.#showTrail(isSearch);
    const isEmptyState = !isSearch && this.#path === '' && !this.#filters.isOn;
    const recent = isEmptyState ? this.#recent.show() : this.#recent.hide();
    const filters = this.#filters.query(new Date());
    const where = isSearch ? { query } : { path: this.#path };
    this.#first = null;
    await Promise.all([recent, this.#list.show({
      load: async (cursor, signal) => {
        const page = await request('GET', '/files', { query: { ...where, ...filters, cursor, limit: PAGE }, signal });
        if (cursor === null) {
          this.#boxes.count.textContent = countText(page, isSearch);
          this.#first = page.entries[0] ?? null;
          this.#showHint(isSearch);
        }
        return { items: page.entries, cursor: page.next_cursor, total: page.total };
      },
      empty: () => (this.#filters.isOn ? words.find.nothing_fits : isSearch ? say(words.find.nothing_called, { query }) : words.find.empty),
    })]);
  }

  /** @param {boolean} isSearch */
  #showHint(isSearch) {
    const name = this.#first ? displayText(this.#first.name) : '';
    this.#boxes.hint.textContent = !isSearch ? words.find.hint_keys : !this.#first ? ''
      : say(this.#first.kind === 'folder' ? words.find.hint_folder : words.find.hint_first, { name });
    this.#boxes.list.classList.toggle('found', isSearch);
  }

  /** @param {boolean} isSearch */
  #showTrail(isSearch) {
    const names = this.#path === '' ? [] : this.#path.split('/');
    const step = (/** @type {string} */ path, /** @type {Node|string} */ name) => {
      const isHere = path === this.#path && !isSearch;
      return element('li', {}, this.#folderLink(path, { 'aria-current': isHere ? 'page' : undefined }, name));
    };
    this.#boxes.trail.replaceChildren(element('ol', {}, step('', words.find.all), ...names.map((name, index) =>
      step(names.slice(0, index + 1).join('/'), element('bdi', {}, displayText(name))))));
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
  async #searchKey(event) {
    // A key that is held presses once.
    if (event.isComposing || (event.repeat && event.key === 'Enter')) return;
    const { search } = this.#boxes;
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      await this.#shown;
      this.#list.focusFirst();
    } else if (event.key === 'Enter' && this.#isSearch) {
      event.preventDefault();
      // Whoever types fast presses Enter before the answer is there; what they meant is what they typed.
      await this.#shown;
      const entry = this.#first;
      if (!entry) return;
      if (entry.kind === 'folder') location.hash = hashOfPath(entry.path);
      else if (event.shiftKey) this.#doing.options([entry]);
      else this.#doing.share([entry], search);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      this.#list.focusFirst();
    } else if (event.key === 'Escape' && search.value === '') {
      search.blur();
    }
  }

  /** Enter shares all that is selected where this row is among it, or else this row. The box itself takes Space. @param {KeyboardEvent} event */
  #rowKey(event) {
    const from = /** @type {HTMLElement} */ (event.target);
    if (event.key !== 'Enter' || !(from instanceof HTMLInputElement) || !from.matches('input.key')) return;
    event.preventDefault();
    if (event.repeat) return;
    const selected = this.#selection.entries;
    const does = event.shiftKey ? 'options' : 'share';
    // What was selected elsewhere is not what stands here: a row that is not among it goes by itself.
    if (!from.checked) /** @type {HTMLElement|null} */ (from.closest('.row')?.querySelector(`[data-do=${does}]`))?.click();
    else if (event.shiftKey) this.#doing.options(selected);
    else this.#doing.share(selected, from);
  }

  #uncheck() {
    for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll('.row input.key'))) box.checked = false;
  }

  /** @param {KeyboardEvent} event */
  #shortcut(event) {
    const { search } = this.#boxes;
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = target.matches('select, textarea, input:not([type=checkbox])') || document.querySelector('dialog[open]');
    if (isTyping || event.ctrlKey || event.metaKey) return;
    if (event.key === '/') {
      event.preventDefault();
      if (location.hash.startsWith('#!')) location.hash = '#/';
      search.focus();
      search.select();
    } else if (event.key === 'ArrowUp' && event.altKey && this.#path !== '') {
      event.preventDefault();
      location.hash = hashOfPath(parentPath(this.#path));
    } else if (event.key === 'Escape' && this.#selection.entries.length > 0) {
      this.#selection.clear();
    }
  }
}

/**
 * @param {{entries: Entry[], total: number|null, index: {building: boolean, files: number, truncated: boolean}|null}} page
 * @param {boolean} isSearch
 */
function countText({ entries, total, index }, isSearch) {
  const n = total ?? entries.length;
  if (!isSearch) return say(words.find.entries, { n });
  const found = say(entries.length < PAGE ? words.find.found : words.find.best, { n });
  if (index?.building) return say(words.find.building, { found, files: numberText(index.files) });
  if (index?.truncated) return say(words.find.truncated, { found, files: numberText(index.files) });
  return found;
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
