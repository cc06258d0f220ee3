// SHA-256 (FIPS 180-4), a piece at a time: browsers have it for whole texts in memory alone, and over plain http not at all.

/** The first 32 bits of the fractions of the roots of the first primes: `root` is 3 for the constants and 2 for the start. */
function fractions(/** @type {number} */ root, /** @type {number} */ count) {
  const found = new Int32Array(count);
  for (let at = 0, n = 2; at < count; n += 1) {
    let isPrime = true;
    for (let d = 2; d * d <= n; d += 1) isPrime = isPrime && n % d !== 0;
    if (isPrime) found[at++] = (n ** (1 / root) % 1) * 4294967296;
  }
  return found;
}

const CONSTANTS = fractions(3, 64);

/** The digest of what is added, in order. */
export class Sha256 {
  constructor() {
    this.state = fractions(2, 8);
    this.words = new Int32Array(64);
    this.block = new Uint8Array(64);
    this.view = new DataView(this.block.buffer);
    this.filled = 0;
    this.length = 0;
  }

  /** Adds bytes. They may come in pieces of any length. */
  add(/** @type {Uint8Array} */ bytes) {
    this.length += bytes.length;
    let at = 0;
    if (this.filled > 0) {
      at = Math.min(64 - this.filled, bytes.length);
      this.block.set(bytes.subarray(0, at), this.filled);
      this.filled += at;
      if (this.filled < 64) return;
      this.compress(this.view, 0, 64);
      this.filled = 0;
    }
    const whole = at + ((bytes.length - at) & ~63);
    this.compress(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), at, whole);
    this.block.set(bytes.subarray(whole));
    this.filled = bytes.length - whole;
  }

  /** Returns the digest in hexadecimal digits. Nothing can be added behind it. */
  hex() {
    const length = this.length;
    const end = new Uint8Array((this.filled < 56 ? 64 : 128) - this.filled);
    end[0] = 128;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(length / 536870912));
    view.setUint32(end.length - 4, (length % 536870912) * 8);
    this.add(end);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  // Written out so that engines see numbers of 32 bits and nothing else: `[h0, …] = state` alone makes it three times as slow.
  /** Takes in whole blocks, from one offset to another. */
  compress(/** @type {DataView} */ view, /** @type {number} */ from, /** @type {number} */ to) {
    const w = this.words;
    const s = this.state;
    let h0 = s[0], h1 = s[1], h2 = s[2], h3 = s[3], h4 = s[4], h5 = s[5], h6 = s[6], h7 = s[7];
    for (let at = from; at < to; at += 64) {
      for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(at + i * 4);
      for (let i = 16; i < 64; i += 1) {
        const x = w[i - 15];
        const y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (((w[i - 16] + s0) | 0) + ((w[i - 7] + s1) | 0)) | 0;
      }
      let a = h0, b = h1, c = h2, d = h3, e = h4, f = h5, g = h6, h = h7;
      for (let i = 0; i < 64; i += 1) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t1 = (((h + s1) | 0) + ((((g ^ (e & (f ^ g))) + CONSTANTS[i]) | 0) + w[i])) | 0;
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
        h = g; g = f; f = e; e = (d + t1) | 0;
        d = c; c = b; b = a; a = (t1 + t2) | 0;
      }
      h0 = (h0 + a) | 0; h1 = (h1 + b) | 0; h2 = (h2 + c) | 0; h3 = (h3 + d) | 0;
      h4 = (h4 + e) | 0; h5 = (h5 + f) | 0; h6 = (h6 + g) | 0; h7 = (h7 + h) | 0;
    }
    s[0] = h0; s[1] = h1; s[2] = h2; s[3] = h3; s[4] = h4; s[5] = h5; s[6] = h6; s[7] = h7;
  }
}
