import { ask } from './act.mjs';
import { badge, bar, byId, h, list, say } from './dom.mjs';
import { date, duration, number, percent, rate, size } from './format.mjs';
import { graph, History, speed } from './graph.mjs';

/** @import { PageDetails, PagePool, PageState, PageVdev } from '../state.ts' */
/** @import { Advice } from '../advice.ts' */
/** @import { ScanSample } from '../../metrics/sample.ts' */
/** @typedef {{ pool: PagePool, before: PagePool | undefined, seconds: number, time: number }} Item */

/** @type {Map<string, ReturnType<typeof poolCard>>} */
const cards = new Map();
/** @type {Record<string, Advice>} */
let advice = {};
/** A pool that is late once or twice is only busy; seconds. */
const PATIENCE = 3;
/** When each pool answered last, or was seen first. */
/** @type {Map<string, number>} */
let heard = new Map();

/**
 * @param {PageState} state
 * @param {PageState | undefined} before
 */
export function showPools(state, before) {
  const seconds = before === undefined ? 0 : state.at - before.at;
  const items = state.pools.map((pool) => ({
    pool,
    before: before?.pools.find(({ name }) => name === pool.name),
    seconds,
    time: state.time,
  }));
  heard = new Map(
    state.pools.map(({ name, details }) => [
      name,
      details === undefined ? (heard.get(name) ?? state.time) : state.time,
    ]),
  );
  for (const name of cards.keys()) if (!state.pools.some((pool) => pool.name === name)) cards.delete(name);
  list(
    byId('pools'),
    items,
    ({ pool }) => pool.name,
    ({ pool }) => {
      const card = poolCard(pool.name);
      cards.set(pool.name, card);
      card.advise(advice[pool.name]);
      return card;
    },
  );
  // Where something is wrong, that is not for sure.
  byId('no-pools').hidden = state.pools.length > 0 || state.troubles.length > 0;
}

/**
 * Whether a pool has not answered for a while.
 * @param {string} name
 * @param {number} now
 */
export function isSilent(name, now) {
  return now - (heard.get(name) ?? now) > PATIENCE;
}

/** @param {Record<string, Advice>} all what zpool status says, by pool */
export function showAdvice(all) {
  advice = all;
  for (const [name, card] of cards) card.advise(advice[name]);
}

/** @param {string} name */
function poolCard(name) {
  const state = badge();
  const old = h('p', { class: 'old', hidden: true });
  const fill = bar('space');
  const spaceText = h('p', { class: 'figures' });
  const works = h('div', { class: 'works' });
  const said = h('div', { class: 'advice', hidden: true });
  const rows = h('tbody');
  const leftOut = h('p', { class: 'empty', hidden: true });
  const reading = h('span', { class: 'key' });
  const writing = h('span', { class: 'key writes' });
  const io = h('p', { class: 'figures' }, reading, writing);
  const curve = graph({ width: 600, height: 72 });
  const all = h('pre');
  const history = new History();
  let answered = false;

  const scrub = h('button', { type: 'button', class: 'act' }, 'Scrub');
  scrub.addEventListener('click', () => ask(`Scrub ${name}`, { do: 'scrub', pool: name }));
  const pause = h('button', { type: 'button', class: 'act' }, 'Pause scrub');
  pause.addEventListener('click', () => ask(`Pause the scrub of ${name}`, { do: 'scrub-pause', pool: name }));
  const stop = h('button', { type: 'button', class: 'act' }, 'Stop scrub');
  stop.addEventListener('click', () => ask(`Stop the scrub of ${name}`, { do: 'scrub-stop', pool: name }));
  const clear = h('button', { type: 'button', class: 'act' }, 'Clear errors');
  clear.addEventListener('click', () => ask(`Clear the errors of ${name}`, { do: 'clear', pool: name }));
  const create = h('button', { type: 'button', class: 'act' }, 'New volume');
  create.addEventListener('click', () => createVolume(name));

  const element = h(
    'article',
    { class: 'pool', 'aria-label': `Pool ${name}` },
    h(
      'div',
      { class: 'title' },
      h('h3', {}, name),
      state.element,
      h('div', { class: 'buttons' }, scrub, pause, stop, clear, create),
    ),
    old,
    said,
    h('div', { class: 'two' }, h('div', {}, fill.element, spaceText, works), h('div', {}, curve.element, io)),
    h(
      'div',
      { class: 'wide', tabindex: '0', role: 'region', 'aria-label': `Devices of ${name}` },
      h(
        'table',
        { class: 'vdevs' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            h('th', { scope: 'col' }, 'Device'),
            h('th', { scope: 'col' }, 'State'),
            h('th', { scope: 'col', class: 'number', title: 'Errors of reading' }, 'Read'),
            h('th', { scope: 'col', class: 'number', title: 'Errors of writing' }, 'Write'),
            h('th', { scope: 'col', class: 'number', title: 'Errors of checksums' }, 'Cksum'),
            h('th', { scope: 'col', class: 'number spare-column' }, 'Used'),
            h('th', { scope: 'col', class: 'number spare-column' }, 'Reads'),
            h('th', { scope: 'col', class: 'number spare-column' }, 'Writes'),
          ),
        ),
        rows,
      ),
    ),
    leftOut,
    h('details', {}, h('summary', {}, 'zpool status -v ', name), all),
  );

  /** @param {Item} item */
  function update({ pool, before, seconds, time }) {
    state.update(pool.state);
    const { io: counts, details } = pool;
    const isOld = isSilent(pool.name, time);
    old.hidden = !isOld;
    element.classList.toggle('is-old', isOld && answered);
    say(
      old,
      `The pool does not answer.${answered ? ` What follows is of ${date(heard.get(pool.name) ?? time)}.` : ''}`,
    );
    if (counts === undefined || details === undefined) {
      history.add(0, 0);
      curve.draw(history);
      return;
    }
    answered = true;
    const part = counts.size === 0 ? 0 : counts.allocated / counts.size;
    const space = `${size(counts.allocated)} of ${size(counts.size)} used, ${percent(part)}`;
    fill.update(part, space);
    say(spaceText, `${space}; ${size(details.free)} free, ${details.fragmentation}% fragmented`);
    showWorks(works, details);
    const past = before?.io;
    const read = speed(counts.read.bytes, past?.read.bytes, seconds);
    const write = speed(counts.write.bytes, past?.write.bytes, seconds);
    history.add(read, write);
    curve.draw(history);
    const reads = number(speed(counts.read.operations, past?.read.operations, seconds));
    const writes = number(speed(counts.write.operations, past?.write.operations, seconds));
    say(reading, `Read ${rate(read)}, ${reads} a second`);
    say(writing, `Write ${rate(write)}, ${writes} a second`);
    showVdevs(rows, details, before?.details, seconds);
    leftOut.hidden = details.vdevsLeftOut === 0;
    say(leftOut, `and ${details.vdevsLeftOut} more`);
    const { scan } = details;
    const scrubs = scan?.kind === 'scrub' && scan.state === 'scanning';
    scrub.hidden = scan?.state === 'scanning' && !(scrubs && scan.paused);
    say(scrub, scrubs ? 'Resume scrub' : 'Scrub');
    pause.hidden = !scrubs || scan.paused;
    stop.hidden = !scrubs;
  }

  /** @param {Advice | undefined} what */
  function advise(what) {
    say(all, what?.text ?? 'not asked yet');
    const { status = '', action = '', see = '', errors = '' } = what ?? {};
    const isWell = errors === '' || errors === 'No known data errors';
    said.hidden = status === '' && isWell;
    /** @param {string} title @param {Node | string} text */
    const paragraph = (title, text) => h('p', {}, h('b', {}, title), ' ', text);
    said.replaceChildren(
      ...(status === '' ? [] : [paragraph('Status:', status)]),
      ...(action === '' ? [] : [paragraph('Action:', action)]),
      ...(isWell ? [] : [paragraph('Errors:', errors)]),
      ...(/^https:\/\/\S+$/.test(see)
        ? [paragraph('See:', h('a', { href: see, rel: 'noreferrer', target: '_blank' }, see))]
        : []),
    );
  }

  return { element, update, advise };
}

/** @param {string} pool */
function createVolume(pool) {
  ask(`New volume in ${pool}`, { do: 'create' }, [
    { name: 'dataset', label: 'Name', value: `${pool}/` },
    { name: 'size', label: 'Size', hint: 'such as 10G' },
    { name: 'sparse', label: 'Sparse: no space is set aside for it', type: 'checkbox', checked: true },
    { name: 'volblocksize', label: 'Block size', options: ['', '4K', '8K', '16K', '32K', '64K', '128K'] },
    { name: 'compression', label: 'Compression', options: ['', 'lz4', 'zstd', 'off'] },
  ]);
}

const kinds = {
  scrub: 'Scrub',
  resilver: 'Resilver',
  errorscrub: 'Scrub of errors',
  rebuild: 'Rebuild',
  trim: 'Trim',
  initialize: 'Initialization',
  removal: 'Removal',
  expansion: 'Expansion',
};

/** @typedef {{ key: string, title: string, done: number, total: number, rate: number | undefined, secondsLeft: number | undefined, paused: boolean, over?: string }} Shown */

/**
 * What the pool does of its own, and what it did last.
 * @param {Element} parent
 * @param {PageDetails} details
 */
function showWorks(parent, { scan, works }) {
  /** @type {Shown[]} */
  const all = scan === undefined ? [] : [scanShown(scan)];
  for (const work of works)
    all.push({ ...work, key: `${work.kind} ${work.vdev}`, title: `${kinds[work.kind]} of ${nameOf(work.vdev).base}` });
  list(
    parent,
    all,
    ({ key }) => key,
    () => {
      const progress = bar('progress');
      const text = h('p', { class: 'figures' });
      /** @param {Shown} work */
      const update = (work) => {
        const part = work.total === 0 ? 0 : Math.min(1, work.done / work.total);
        progress.element.hidden = work.over !== undefined;
        progress.update(part, work.title);
        say(text, work.over ?? progressText(work, part));
      };
      return { element: h('div', { class: 'work' }, text, progress.element), update };
    },
  );
}

/**
 * @param {Shown} work
 * @param {number} part
 */
function progressText({ title, paused, done, total, rate: pace, secondsLeft }, part) {
  const left = secondsLeft === undefined ? '' : `, ${duration(secondsLeft)} left`;
  const how = paused ? 'paused' : !pace ? '' : `at ${rate(pace)}${left}`;
  return `${title}: ${percent(part)}, ${size(done)} of ${size(total)}${how === '' ? '' : `, ${how}`}`;
}

/**
 * @param {ScanSample} scan
 * @returns {Shown}
 */
function scanShown({ kind, state, paused, issued, total, rate: pace, secondsLeft, startedAt, endedAt, errors }) {
  const title = kinds[kind];
  const shown = { key: 'scan', title, done: issued, total, rate: pace, secondsLeft, paused };
  if (state === 'scanning') return shown;
  const how = state === 'finished' ? `took ${duration(endedAt - startedAt)}` : 'was stopped';
  const found = errors === 0 ? 'without errors' : `with ${errors} errors`;
  return { ...shown, over: `Last ${title.toLowerCase()} ended ${date(endedAt)} ${found}, ${how}` };
}

const sections = { data: '', special: 'special', dedup: 'dedup', log: 'log', cache: 'cache', spare: 'spare' };

/** @typedef {{ key: string, title?: string, vdev?: PageVdev, past?: PageVdev | undefined, seconds: number }} Row */

/**
 * @param {Element} parent
 * @param {PageDetails} details
 * @param {PageDetails | undefined} before
 * @param {number} seconds
 */
function showVdevs(parent, { vdevs }, before, seconds) {
  /** @type {Row[]} */
  const rows = [];
  const past = new Map((before?.vdevs ?? []).map((vdev) => [`${vdev.kind} ${vdev.name}`, vdev]));
  for (const [kind, title] of Object.entries(sections)) {
    const own = vdevs.filter((vdev) => vdev.kind === kind);
    if (own.length > 0 && title !== '') rows.push({ key: `title ${kind}`, title, seconds });
    for (const vdev of own) {
      const key = `${kind} ${vdev.name}`;
      rows.push({ key, vdev, past: past.get(key), seconds });
    }
  }
  list(
    parent,
    rows,
    ({ key }) => key,
    ({ title }) => (title === undefined ? vdevRow() : sectionRow(title)),
  );
}

/** @param {string} title */
function sectionRow(title) {
  const element = h('tr', { class: 'section' }, h('th', { colspan: '8', scope: 'colgroup' }, title));
  return { element, update: () => {} };
}

function vdevRow() {
  const folder = h('span', { class: 'folder' });
  const base = h('span');
  const note = h('span', { class: 'note' });
  const state = badge();
  const name = h('th', { scope: 'row' }, folder, base);
  const errors = ['read', 'write', 'checksum'].map(() => h('td', { class: 'number' }));
  const used = h('td', { class: 'number spare-column' });
  const reads = h('td', { class: 'number spare-column' });
  const writes = h('td', { class: 'number spare-column' });
  const element = h('tr', {}, name, h('td', {}, state.element, ' ', note), ...errors, used, reads, writes);
  /** @param {Row} row */
  const update = ({ vdev, past, seconds }) => {
    if (vdev === undefined) return;
    const parts = nameOf(vdev.name);
    say(folder, parts.folder);
    say(base, parts.base);
    name.title = vdev.name;
    name.style.paddingInlineStart = `${0.5 + vdev.depth * 1.25}rem`;
    const inUse = vdev.note === 'in use';
    state.update(
      vdev.kind === 'spare' ? (inUse ? 'INUSE' : vdev.state === 'ONLINE' ? 'AVAIL' : vdev.state) : vdev.state,
    );
    say(note, inUse ? '' : (vdev.note ?? ''));
    for (const [i, count] of [vdev.errors.read, vdev.errors.write, vdev.errors.checksum].entries()) {
      const cell = /** @type {HTMLElement} */ (errors[i]);
      say(cell, number(count));
      cell.classList.toggle('has-errors', count > 0);
    }
    say(used, vdev.size === 0 ? '' : `${size(vdev.allocated)} / ${size(vdev.size)}`);
    say(reads, rate(speed(vdev.bytes.read, past?.bytes.read, seconds)));
    say(writes, rate(speed(vdev.bytes.write, past?.bytes.write, seconds)));
  };
  return { element, update };
}

/**
 * A device's folder and name; a group without those that it is in.
 * @param {string} name
 */
function nameOf(name) {
  const slash = name.lastIndexOf('/');
  return { folder: name.startsWith('/') ? name.slice(0, slash + 1) : '', base: name.slice(slash + 1) };
}
