// Makes elements. Text only ever becomes text: nothing here parses HTML.

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties] `on…` adds a listener, `class` and names with a dash set attributes, the rest properties
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (name === 'class' || name === 'role' || name === 'for' || name.includes('-')) made.setAttribute(name, value);
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(.../** @type {(Node|string)[]} */ (children.filter((child) => child !== null && child !== undefined && child !== false)));
  return made;
}

/**
 * Makes an element of SVG.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string|number>} [attributes]
 * @param {...(Node|string)} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

const ICONS = {
  folder: 'M3 6.5A1.5 1.5 0 0 1 4.5 5h4l2 2.5h9A1.5 1.5 0 0 1 21 9v8.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5z',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01',
  video: 'M4 5h16v14H4zM10 9l5 3-5 3z',
  audio: 'M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z',
  text: 'M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6',
};

/**
 * Makes an icon, which screen readers skip.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  return shape('svg', { viewBox: '0 0 24 24', class: `icon ${name}`, 'aria-hidden': 'true' }, shape('path', { d: ICONS[name] }));
}

/**
 * Chooses the icon of a media type.
 * @param {string|null|undefined} mimeType
 * @returns {keyof typeof ICONS}
 */
export function iconOf(mimeType) {
  const kind = (mimeType ?? '').split('/')[0];
  return kind === 'image' || kind === 'video' || kind === 'audio' || kind === 'text' ? kind : 'file';
}

/**
 * Tells a screen reader what has just happened.
 * @param {string} text
 */
export function announce(text) {
  const region = document.getElementById('announcements');
  if (region) region.textContent = text;
}
