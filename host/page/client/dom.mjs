/**
 * An element: h('td', { class: 'number' }, 'text', child). What is text stays text: nothing here makes HTML of it.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | boolean | ((event: Event) => void)>} [attributes] functions are listeners
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (typeof value === 'string') element.setAttribute(name, value);
    else element.toggleAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/**
 * The element of the page with that id.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no #${id}`);
  return element;
}

/**
 * Sets text where it has changed: a selection stays, and nobody is told what is as before.
 * @param {Element} element
 * @param {string} value
 */
export function say(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/**
 * What is shown for one item of a list.
 * @template T
 * @typedef {{ readonly element: Element, readonly update: (item: T) => void }} Part
 */

/** @type {WeakMap<Element, Map<string, Part<any>>>} */
const shown = new WeakMap();

/**
 * Shows a list: a part for each item, which stays the same element as long as the item has the same key.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Part<T>} create
 */
export function list(parent, items, keyOf, create) {
  const before = shown.get(parent) ?? new Map();
  /** @type {Map<string, Part<T>>} */
  const now = new Map();
  shown.set(parent, now);
  /** @type {Element | undefined} */
  let last;
  for (const item of items) {
    const key = keyOf(item);
    const part = before.get(key) ?? create(item);
    before.delete(key);
    now.set(key, part);
    part.update(item);
    const next = last === undefined ? firstOf(parent, before, now) : last.nextElementSibling;
    if (next !== part.element) parent.insertBefore(part.element, next);
    last = part.element;
  }
  for (const { element } of before.values()) element.remove();
}

/**
 * The first child that belongs to the list: a table has its head before.
 * @param {Element} parent
 * @param {Map<string, Part<any>>} before
 * @param {Map<string, Part<any>>} now
 */
function firstOf(parent, before, now) {
  const parts = new Set([...before.values(), ...now.values()].map(({ element }) => element));
  return [...parent.children].find((child) => parts.has(child)) ?? null;
}

/**
 * A bar that is filled to a part of it, 0 to 1.
 * @param {string} kind
 */
export function bar(kind) {
  const filling = h('div');
  const element = h('div', { class: `bar ${kind}`, role: kind === 'progress' ? 'progressbar' : 'img' }, filling);
  return {
    element,
    /**
     * @param {number} part
     * @param {string} label
     */
    update(part, label) {
      const percent = Math.round(Math.min(1, Math.max(0, part)) * 1000) / 10;
      filling.style.width = `${percent}%`;
      element.setAttribute('aria-label', label);
      if (kind === 'progress') element.setAttribute('aria-valuenow', String(percent));
      element.dataset.level = part > 0.9 ? 'high' : part > 0.8 ? 'raised' : 'normal';
    },
  };
}

/** Marks of states: colour alone would not do. */
const marks = { good: '✓', warn: '!', bad: '✕', idle: '–' };
const levels = new Map([
  ['ONLINE', 'good'],
  ['AVAIL', 'good'],
  ['INUSE', 'warn'],
  ['DEGRADED', 'warn'],
  ['OFFLINE', 'idle'],
  ['REMOVED', 'idle'],
]);

/** The state of a pool or device, as a badge. */
export function badge() {
  const mark = h('span', { 'aria-hidden': 'true' });
  const word = h('span');
  const element = h('span', { class: 'badge' }, mark, word);
  return {
    element,
    /** @param {string} state */
    update(state) {
      const level = /** @type {keyof typeof marks} */ (levels.get(state) ?? 'bad');
      if (element.dataset.level !== level) element.dataset.level = level;
      say(mark, marks[level]);
      say(word, state);
    },
  };
}
