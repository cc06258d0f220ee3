class LogScreen extends HTMLElement {
  /** @param {import('../places.js').Context} _context */
  constructor(_context) {
    super();
  }

  /** @param {URLSearchParams} _asked */
  show(_asked) {}
}

customElements.define('log-screen', LogScreen);
export default LogScreen;
