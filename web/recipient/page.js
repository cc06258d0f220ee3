// What a recipient's page does where it may run a script. Without it everything works, but is not seen while it happens. All that
// is said was written by the server, into the page or into the live stream.

import { fill, verdict } from './verdict.js';

/** How long after a stream broke off it is looked for again, in milliseconds. */
const PAUSE = 2000;
/** How often that is tried until nobody is believed to come back: five minutes. */
const TRIES = 150;
/** How long an answer may take, in milliseconds: where nobody is behind a tunnel, some keep who asks waiting for ever. */
const PATIENCE = 10000;
/** How much of a file is read between two words about that, of all of it. */
const STEP = 0.01;
/** How much arrives between two announcements to whoever cannot see the bar, in percent. */
const ANNOUNCED = 25;

const language = document.documentElement.lang;
/** As the reader writes times: the page's language, in their country where that is known. */
const region = navigator.language.startsWith(language) ? navigator.language : language;
/** @type {EventSource|undefined} */
let stream;
let tries = 0;

wire();

/** Brings what the server wrote to life. */
function wire() {
  for (const time of document.querySelectorAll('time')) showInOwnZone(time);
  document.querySelector('form')?.addEventListener('submit', redeem);
  const mine = document.querySelector('[data-live]');
  if (mine instanceof HTMLElement) follow(mine);
  const check = document.querySelector('[data-sha256]');
  if (check instanceof HTMLElement) offerCheck(check);
}

function showInOwnZone(/** @type {HTMLTimeElement} */ time) {
  const at = new Date(time.dateTime);
  const isToday = at.toDateString() === new Date().toDateString();
  time.title = time.textContent ?? '';
  time.textContent = at.toLocaleString(region, { ...(!isToday && { dateStyle: 'medium' }), timeStyle: 'short' });
}

/** The button: the browser downloads, and this page stays and tells how far it is. */
async function redeem(/** @type {SubmitEvent} */ event) {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const button = /** @type {HTMLButtonElement} */ (form.querySelector('button'));
  button.disabled = true;
  let to;
  try {
    const answer = await fetch(form.action, { method: 'POST', headers: { accept: 'application/json' }, signal: AbortSignal.timeout(PATIENCE) });
    to = answer.ok && new URL((await answer.json()).transfer, answer.url).href;
  } catch {
    // Perhaps it was done and only the answer was lost: the page knows. Where nobody answers, the browser itself says what it finds.
    await look().catch(() => form.submit());
    return document.querySelector('form')?.submit();
  }
  await look().catch(() => to || location.reload());
  if (to) location.assign(to);
}

/** Asks for this page anew and shows it in the place of what stands here. */
async function look() {
  const answer = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const main = page.querySelector('main');
  if (!main || answer.status === 503) throw new Error('not now');
  stream?.close();
  const before = document.querySelector('h1')?.textContent;
  document.querySelector('main')?.replaceWith(document.adoptNode(main));
  document.title = page.title;
  const heading = main.querySelector('h1');
  if (heading?.textContent !== before) heading?.focus();
  wire();
}

/** Shows how far the reader's own transfer is. */
function follow(/** @type {HTMLElement} */ mine) {
  const part = (/** @type {string} */ name) => /** @type {HTMLElement} */ (mine.querySelector(name));
  const bar = /** @type {HTMLProgressElement} */ (part('progress'));
  let announced = '';
  const source = new EventSource(String(mine.dataset.live));
  stream = source;
  source.addEventListener('progress', (event) => {
    const { state, title, text, percent, delivered_bytes: bytes } = JSON.parse(event.data);
    tries = 0;
    mine.dataset.now = state;
    if (state !== 'redeemed') part('a').textContent = String(part('a').dataset.later);
    part('h1').textContent = title;
    part('.line').textContent = text;
    bar.value = bytes;
    document.title = `${percent} % · ${title}`;
    const now = `${title}${Math.floor(percent / ANNOUNCED)}`;
    if (now !== announced) part('[role=status]').textContent = `${title} ${percent} %`;
    announced = now;
    // It is over: the server has a page that says how.
    if (!['redeemed', 'transferring', 'waiting'].includes(state)) {
      source.close();
      look().catch(() => {});
    }
  });
  source.onerror = () => {
    source.close();
    again();
  };
  function again() {
    if (!mine.isConnected || tries >= TRIES) return;
    if (tries > 0) {
      part('h1').textContent = part('[role=status]').textContent = String(mine.dataset.lost);
      // How fast it was, it is no more.
      mine.dataset.now = part('.line').textContent = '';
    }
    tries += 1;
    setTimeout(() => look().catch(again), PAUSE);
  }
}

/** Lets the reader compare a file with the one that was sent. */
function offerCheck(/** @type {HTMLElement} */ check) {
  const says = /** @type {Record<string, string>} */ (check.dataset);
  const sent = { sha256: says.sha256, size: Number(says.size) };
  const make = (/** @type {string} */ name, text = '') => Object.assign(document.createElement(name), { textContent: text });
  const input = Object.assign(document.createElement('input'), { type: 'file', className: 'unseen' });
  const label = make('label', says.choose);
  const result = make('p');
  const cancel = /** @type {HTMLButtonElement} */ (make('button', says.cancel));
  result.setAttribute('role', 'status');
  label.className = cancel.className = 'button quiet';
  cancel.type = 'button';
  cancel.hidden = true;
  label.prepend(input);
  check.append(make('h2', says.title), make('p', says.how), label, result, cancel);

  let running = new AbortController();
  async function compare(/** @type {File|undefined} */ file) {
    if (!file) return;
    running.abort();
    const mine = running = new AbortController();
    let told = 0;
    result.className = '';
    cancel.hidden = false;
    const found = await verdict(file, sent, (share) => {
      if (share - told < STEP || mine.signal.aborted) return;
      told = share;
      // It is announced once; what runs is for the eye.
      result.setAttribute('aria-busy', 'true');
      result.textContent = fill(says.checking, 'percent', Math.floor(share * 100), language);
    }, mine.signal);
    if (mine !== running) return;
    cancel.hidden = true;
    result.removeAttribute('aria-busy');
    result.className = found === 'same' ? 'good' : 'bad';
    result.textContent = found === 'cancelled' ? '' : fill(says[found], 'n', Math.abs(file.size - sent.size), language);
    input.value = '';
  }
  cancel.onclick = () => running.abort();
  input.onchange = () => compare(input.files?.[0]);
  document.ondragover = (event) => {
    event.preventDefault();
    check.classList.add('over');
  };
  document.ondragleave = () => check.classList.remove('over');
  document.ondrop = (event) => {
    event.preventDefault();
    check.classList.remove('over');
    check.closest('details')?.setAttribute('open', '');
    compare(event.dataTransfer?.files[0]);
  };
}
