// The words of the reader's language: the server chose it by `Accept-Language` and wrote it into the page.

/** @typedef {typeof import('../words/en.js').default} Words */

const LANGUAGES = ['en', 'de'];
const said = globalThis.document?.documentElement.lang ?? 'en';

/** Its code of RFC 5646, as `Intl` takes it. */
export const language = LANGUAGES.includes(said) ? said : 'en';

/** @type {Words} */
export const words = (await import(`../words/${language}.js`)).default;

/**
 * Returns what the server says in English only, by another language's words: its refusals by their code, its settings by their
 * names. It is loaded when it is needed; where it cannot be, or there is nothing in it, the server's own words stand.
 * @returns {Promise<{errors: Record<string, string>, settings: Record<string, string>}>}
 */
export async function help() {
  const none = { errors: {}, settings: {} };
  return language === 'en' ? none : import(`../words/help.${language}.js`).then((module) => module.default, () => none);
}

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
