// Shares at once: makes the links, copies them, and shows the card.

import { newKey, refusal, request } from '../shared/api.js';
import { announce } from '../shared/dom.js';
import { displayText } from '../shared/format.js';
import { say, words } from '../shared/words.js';
import { copyComing } from './clipboard.js';
import { sentenceOfShare } from './policy.js';
import { toast } from './toast.js';

/** @typedef {import('./share-book.js').Share} Share */
/** @typedef {import('./file-row.js').Entry} Entry */

/** How long a door may take to open before nobody waits any more for its link to be copied; a browser forgets the press before. */
const LINK_TIMEOUT_MS = 20_000;
/** Within how long the same press again is one by mistake. */
const TWICE_MS = 2_000;
/** Within how long whoever waits for the answer, or lost it, asks for the same; later it is another wish, and that share may be over. */
const LOST_MS = 60_000;

export class Sharing {
  #book;
  #onMade;
  #last = { paths: '', key: '', until: 0 };

  /**
   * @param {import('./share-book.js').ShareBook} book
   * @param {(shares: Share[], copied: boolean) => void} onMade shows what was made
   */
  constructor(book, onMade) {
    this.#book = book;
    this.#onMade = onMade;
  }

  /**
   * Shares files by the defaults, from the press of a key or a button.
   * @param {Entry[]} entries
   * @param {HTMLElement} from what was pressed
   * @returns {Promise<boolean>} whether anything was shared; where not, the reason was told
   */
  async now(entries, from) {
    if (from.getAttribute('aria-busy') === 'true') return false;
    from.setAttribute('aria-busy', 'true');
    // Pressed twice by mistake, or again since the answer was lost, it is the same wish and makes one share.
    const paths = JSON.stringify(entries.map((entry) => entry.path));
    if (paths !== this.#last.paths || Date.now() > this.#last.until) this.#last = { paths, key: newKey(), until: Date.now() + LOST_MS };
    const last = this.#last;
    try {
      await this.make(entries, {}, last.key);
      last.until = Date.now() + TWICE_MS;
      return true;
    } catch (error) {
      const { message, status } = /** @type {Error & {status?: number}} */ (error);
      if (status !== 0) last.until = 0;
      toast(message, { isError: true });
      return false;
    } finally {
      from.removeAttribute('aria-busy');
    }
  }

  /**
   * Shares files, copies the links and shows what was made.
   * @param {Entry[]} entries
   * @param {object} wish what the body says beside the paths
   * @param {string} key makes it safe to send the same wish again
   * @throws where not one of them could be shared
   */
  async make(entries, wish, key) {
    const making = this.#make(entries, wish, key);
    const coming = making.then(({ shares }) => this.#links(shares));
    const copying = copyComing(coming);
    const { shares, refusals } = await making;
    if (shares.length === 0) throw refusals[0];
    const copied = await copying;
    this.#onMade(shares, copied);
    const [first] = shares;
    const about = shares.length === 1 ? ` ${sentenceOfShare(first)}` : '';
    const links = (await coming)?.split('\n').length ?? 0;
    const done = !copied ? words.share.not_copied : shares.length === 1 ? words.share.copied : say(words.share.copied_links, { n: links });
    const names = shares.map((share) => displayText(share.name));
    announce(`${names.join(', ')}: ${done}${about}`);
    toast(`${names[0]}${names.length > 1 ? ' …' : ''}: ${done}${about}`);
    if (refusals.length > 0) toast(say(words.share.some_failed, { n: refusals.length, why: refusals[0].message }), { isError: true });
  }

  /**
   * @param {Entry[]} entries
   * @param {object} wish
   * @param {string} key
   * @returns {Promise<{shares: Share[], refusals: Error[]}>}
   */
  async #make(entries, wish, key) {
    if (entries.length === 1) return { shares: [await this.#book.create({ path: entries[0].path, ...wish }, key)], refusals: [] };
    const { results } = await request('POST', '/shares', { body: { paths: entries.map((entry) => entry.path), ...wish }, key });
    const shares = results.filter((/** @type {any} */ result) => result.share).map((/** @type {any} */ result) => this.#book.made(result.share));
    const refused = results.filter((/** @type {any} */ result) => result.problem);
    const refusals = await Promise.all(refused.map((/** @type {any} */ result) => refusal(result.problem, result.status)));
    return { shares, refusals };
  }

  /** Waits for the links of shares whose doors are still being opened. @param {Share[]} shares */
  async #links(shares) {
    const links = await Promise.all(shares.map((share) => this.#link(share)));
    const known = links.filter((link) => link !== null);
    return known.length > 0 ? known.join('\n') : null;
  }

  /**
   * @param {Share} share
   * @returns {Promise<string|null>}
   */
  #link(share) {
    if (share.url) return Promise.resolve(share.url);
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(null), LINK_TIMEOUT_MS);
      const done = (/** @type {string|null} */ url) => {
        clearTimeout(timer);
        this.#book.removeEventListener('share', look);
        resolve(url);
      };
      const look = () => {
        const now = this.#book.get(share.id);
        if (now?.url || now?.state === 'closed') done(now.url);
      };
      this.#book.addEventListener('share', look);
      look();
    });
  }
}
