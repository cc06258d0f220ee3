// The words of the reader's language: the server chose it by `Accept-Language` and wrote it into the page.

/** @typedef {typeof import('../words/en.js').default} Words */

const LANGUAGES = ['en', 'de'];
const said = globalThis.document?.documentElement.lang ?? 'en';

/** Its code of RFC 5646, as `Intl` takes it. */
export const language = LANGUAGES.includes(said) ? said : 'en';

/** @type {Words} */
export const words = (await import(`../words/${language}.js`)).default;

/**
 * Fills the places of a text in, as `{name}`. Of a text that reads otherwise for one, `n` chooses; numbers are written as the
 * language does.
 * @param {string|{one: string, other: string}} text
 * @param {Record<string, string|number>} [values]
 * @returns {string}
 */
export function say(text, values = {}) {
  const phrase = typeof text === 'string' ? text : values.n === 1 ? text.one : text.other;
  return phrase.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === 'number' ? value.toLocaleString(language) : value ?? '';
  });
}
