// Speaks to the REST API of the owner side.

import { help, say, words } from './words.js';

/** Where the API is: next to the page's own files, below whatever prefix a proxy puts before both. */
export const BASE = new URL('../../api/v1', import.meta.url).pathname;
/** How long an answer may take. Opening a door may need half a minute; longer, and something is wrong. */
const TIMEOUT_MS = 60_000;

/** Says why a request failed, in a sentence for the owner. */
export class ApiError extends Error {
  /**
   * @param {string} detail
   * @param {string} code the stable word of the API; `unreachable` where nobody answered
   * @param {number} status
   */
  constructor(detail, code, status) {
    super(detail);
    this.code = code;
    this.status = status;
  }
}

/**
 * Sends a request and returns the answer's JSON.
 * @param {'GET'|'POST'|'DELETE'} method
 * @param {string} path below `/api/v1`
 * @param {{body?: object, query?: Record<string, string|number|null|undefined>, signal?: AbortSignal, key?: string}} [options]
 *   `key` makes a repeated POST safe: the server answers it as it did the first time.
 * @returns {Promise<any>}
 */
export async function request(method, path, { body, query, signal, key } = {}) {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  const giveUp = () => timeout.abort();
  signal?.addEventListener('abort', giveUp);
  if (signal?.aborted) giveUp();
  try {
    const response = await fetch(BASE + path + queryString(query), {
      method,
      signal: timeout.signal,
      credentials: 'same-origin',
      headers: { accept: 'application/json', ...(body && { 'content-type': 'application/json' }), ...(key && { 'idempotency-key': key }) },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (response.status === 401) signInAgain();
    if (!response.ok) throw await problem(response, text);
    return text === '' ? null : JSON.parse(text);
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
    throw new ApiError(words.shell.unreachable, 'unreachable', 0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
  }
}

/** Makes the value of an `Idempotency-Key`. `crypto.randomUUID` is missing on plain HTTP, which a LAN often is. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Loads the page anew, which shows the sign-in page once the session is over. */
export function signInAgain() {
  location.replace(new URL('../../', import.meta.url));
}

/** @param {Record<string, string|number|null|undefined>} [query] */
function queryString(query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

/**
 * @param {Response} response
 * @param {string} text
 */
async function problem(response, text) {
  try {
    const told = JSON.parse(text);
    if (typeof told.detail === 'string') return await refusal(told, response.status);
  } catch {
    // Not JSON: something between us and Portcullis answered.
  }
  return new ApiError(say(words.shell.no_reason, { status: String(response.status) }), 'unknown', response.status);
}

/**
 * Tells a refusal in the reader's language.
 * @param {{detail: string, code: string}} told
 * @param {number} status
 */
export async function refusal({ detail, code }, status) {
  const { errors } = await help();
  return new ApiError(Object.hasOwn(errors, code) ? say(errors[code], { detail }) : sentence(detail), String(code), status);
}

/** @param {string} text */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
