// Whether a file is the one that was sent. Pure, but for what it reads of the file.

import { Sha256 } from './sha256.js';

/** @typedef {{ sha256: string, size: number }} Sent */
/** @typedef {'same'|'differs'|'missing'|'tooLong'|'cancelled'|'unreadable'} Verdict */

/**
 * Compares a file with what was sent. One of another length is not read at all; of the others a piece at a time is in memory.
 * @param {Blob} file
 * @param {Sent} sent
 * @param {(share: number) => void} tell how much of it was read, 0 to 1
 * @param {AbortSignal} signal ends it as `cancelled`
 * @returns {Promise<Verdict>}
 */
export async function verdict(file, sent, tell, signal) {
  if (file.size !== sent.size) return file.size < sent.size ? 'missing' : 'tooLong';
  const hash = new Sha256();
  try {
    const reader = file.stream().getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) {
        reader.cancel().catch(() => {});
        return 'cancelled';
      }
      if (done) break;
      hash.add(value);
      tell(hash.length / sent.size);
    }
  } catch {
    return 'unreadable';
  }
  return hash.hex() === sent.sha256 ? 'same' : 'differs';
}

/**
 * Fills a number into a text; where that has two forms, `one|other`, into the one for it.
 * @param {string} text
 * @param {string} name
 * @param {number} n
 * @param {string} language
 */
export function fill(text, name, n, language) {
  const forms = text.split('|');
  return forms[n === 1 ? 0 : forms.length - 1].replace(`{${name}}`, n.toLocaleString(language));
}
