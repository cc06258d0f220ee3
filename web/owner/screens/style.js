// Loads the style of the screens with the first of them, so that the page itself comes sooner; a screen is shown with it.

import { element } from '../../shared/dom.js';

await new Promise((resolve) => {
  const link = element('link', { rel: 'stylesheet', href: new URL('../screens.css', import.meta.url).href });
  // A screen without its style can still be read.
  link.addEventListener('load', resolve);
  link.addEventListener('error', resolve);
  document.head.append(link);
});
