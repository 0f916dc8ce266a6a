import { ask } from './act.mjs';
import { byId, h, list, say } from './dom.mjs';
import { date, latency, rate, size } from './format.mjs';
import { graph, History, speed } from './graph.mjs';

/** @import { PageState } from '../state.ts' */
/** @import { LiveIo, LiveVolume } from '../../metrics/live.ts' */
/** @import { DatasetSample, DatasetsSample, SnapshotSample } from '../../metrics/sample.ts' */
/**
 * @typedef {{
 *   name: string, live: LiveVolume | undefined, before: LiveVolume | undefined, seconds: number,
 *   space: DatasetSample | undefined, snapshots: readonly SnapshotSample[],
 * }} Item
 */

/** Shown at first, and at each wish for more. */
const SOME = 50;
/** Where one begins to look for names. */
const MANY = 8;

/** @type {Map<string, DatasetSample>} */
let spaces = new Map();
/** @type {Map<string, SnapshotSample[]>} */
let snapshotsOf = new Map();
/** @type {PageState | undefined} */
let shown;
/** @type {PageState | undefined} */
let shownBefore;
let most = SOME;

const filter = /** @type {HTMLInputElement} */ (byId('filter'));
const more = byId('more-volumes');
filter.addEventListener('input', () => show(false));
more.addEventListener('click', () => {
  most += SOME;
  show(false);
});

/**
 * @param {PageState} state
 * @param {PageState | undefined} before
 */
export function showVolumes(state, before) {
  shown = state;
  shownBefore = before;
  show(true);
}

/** @param {Record<string, DatasetsSample>} pools */
export function showSpace(pools) {
  const all = Object.values(pools);
  spaces = new Map(all.flatMap(({ datasets }) => datasets.map((dataset) => [dataset.name, dataset])));
  snapshotsOf = new Map();
  for (const snapshot of all.flatMap(({ snapshots }) => snapshots)) {
    const dataset = snapshot.name.slice(0, snapshot.name.indexOf('@'));
    snapshotsOf.set(dataset, [...(snapshotsOf.get(dataset) ?? []), snapshot]);
  }
  show(false);
}

/** @param {boolean} isTick time has gone on */
function show(isTick) {
  if (shown === undefined) return;
  const seconds = isTick && shownBefore !== undefined ? shown.at - shownBefore.at : 0;
  const before = new Map((shownBefore?.volumes ?? []).map((volume) => [volume.name, volume]));
  const live = new Map(shown.volumes.map((volume) => [volume.name, volume]));
  const names = new Set(live.keys());
  // Those that cannot be opened, without their keys for one, and whatever else has snapshots.
  const answering = new Set(shown.pools.map(({ name }) => name));
  for (const [name, { isVolume }] of spaces)
    if ((isVolume || snapshotsOf.has(name)) && answering.has(poolOf(name))) names.add(name);
  const wanted = filter.value.trim().toLowerCase();
  const all = [...names].sort().filter((name) => name.toLowerCase().includes(wanted));
  filter.hidden = names.size <= MANY && wanted === '';
  more.hidden = all.length <= most;
  say(more, `Show more of ${all.length - most} others`);
  const empty = byId('no-volumes');
  empty.hidden = all.length > 0;
  say(empty, names.size === 0 ? 'There is no volume.' : 'No volume has such a name.');
  byId('volumes').hidden = all.length === 0;
  const items = all.slice(0, most).map((name) => ({
    name,
    live: live.get(name),
    before: before.get(name),
    seconds,
    space: spaces.get(name),
    snapshots: snapshotsOf.get(name) ?? [],
  }));
  list(byId('volumes'), items, ({ name }) => name, volumePart);
}

/** @param {string} dataset */
function poolOf(dataset) {
  return dataset.split('/', 1)[0] ?? '';
}

/** @param {Item} item */
function volumePart({ name }) {
  const cell = (/** @type {string} */ label) => h('td', { class: 'number', 'data-label': label });
  const volsize = cell('Size');
  const used = cell('Used');
  const ratio = cell('Ratio');
  const read = cell('Read');
  const write = cell('Write');
  const late = cell('Latency');
  const curve = graph({ width: 120, height: 28 });
  const history = new History();
  const toggle = h('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false' });
  const inner = h('tbody');
  const under = h(
    'tr',
    { class: 'under', hidden: true },
    h(
      'td',
      { colspan: '9' },
      h(
        'table',
        { class: 'snapshots' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            h('th', { scope: 'col' }, 'Snapshot'),
            h('th', { scope: 'col', class: 'number' }, 'Used'),
            h('th', { scope: 'col', class: 'number' }, 'Refers'),
            h('th', { scope: 'col' }, 'Made'),
            h('th', { scope: 'col', class: 'act' }, h('span', { class: 'unseen' }, 'Actions')),
          ),
        ),
        inner,
      ),
    ),
  );
  let isOpen = false;
  toggle.addEventListener('click', () => {
    isOpen = !isOpen;
    under.hidden = !isOpen;
    toggle.setAttribute('aria-expanded', String(isOpen));
  });
  const snapshot = h('button', { type: 'button', class: 'act' }, 'Snapshot');
  snapshot.addEventListener('click', () =>
    ask(`Snapshot of ${name}`, { do: 'snapshot', dataset: name }, [{ name: 'name', label: 'Name' }]),
  );
  const destroy = h('button', { type: 'button', class: 'act' }, 'Destroy');
  destroy.addEventListener('click', () =>
    ask(
      `Destroy ${name}`,
      { do: 'destroy', dataset: name },
      [{ name: 'snapshots', label: 'Its snapshots, too', type: 'checkbox' }],
      `All data of ${name} is lost for ever.`,
    ),
  );
  const row = h(
    'tr',
    {},
    h('th', { scope: 'row' }, h('span', { class: 'name' }, name), toggle),
    ...[volsize, used, ratio, read, write, late],
    h('td', { class: 'curve' }, curve.element),
    h('td', { class: 'act' }, h('div', { class: 'buttons' }, snapshot, destroy)),
  );

  /** @param {Item} item */
  function update({ live, before, seconds, space, snapshots }) {
    say(volsize, live === undefined ? '' : size(live.size));
    say(used, space === undefined ? '' : size(space.used));
    say(ratio, space === undefined ? '' : `${space.compressratio.toFixed(2)}x`);
    destroy.hidden = space !== undefined && !space.isVolume;
    if (seconds > 0) {
      const was = live === undefined || before === undefined ? undefined : before.io;
      const [reads, writes] = ['read', 'write'].map((op) =>
        was === undefined ? 0 : speed(live?.io[op]?.bytes, was[op]?.bytes ?? 0, seconds),
      );
      say(read, rate(reads ?? 0));
      say(write, rate(writes ?? 0));
      say(late, was === undefined || live === undefined ? '' : latencyOf(live.io, was));
      history.add(reads ?? 0, writes ?? 0);
      curve.draw(history);
    }
    toggle.hidden = snapshots.length === 0;
    under.hidden = !isOpen || snapshots.length === 0;
    say(toggle, snapshots.length === 1 ? '1 snapshot' : `${snapshots.length} snapshots`);
    const newest = [...snapshots].sort((a, b) => b.createdAt - a.createdAt);
    list(inner, newest, (one) => one.name, snapshotPart);
  }

  return { element: h('tbody', {}, row, under), update };
}

/**
 * Of all that was done meanwhile, on average.
 * @param {Readonly<Record<string, LiveIo>>} now
 * @param {Readonly<Record<string, LiveIo>>} before
 */
function latencyOf(now, before) {
  let operations = 0;
  let seconds = 0;
  for (const [op, io] of Object.entries(now)) {
    operations += io.operations - (before[op]?.operations ?? 0);
    seconds += io.seconds - (before[op]?.seconds ?? 0);
  }
  return operations > 0 ? latency(seconds / operations) : '–';
}

/** @param {SnapshotSample} snapshot */
function snapshotPart({ name }) {
  const used = h('td', { class: 'number', 'data-label': 'Used' });
  const refers = h('td', { class: 'number', 'data-label': 'Refers' });
  const made = h('td', { 'data-label': 'Made' });
  const back = h('button', { type: 'button', class: 'act' }, 'Roll back');
  back.addEventListener('click', () =>
    ask(
      `Roll back to ${name}`,
      { do: 'rollback', snapshot: name },
      [{ name: 'newer', label: 'Also where there are newer snapshots, which are destroyed', type: 'checkbox' }],
      'All that was written since is lost for ever.',
    ),
  );
  const destroy = h('button', { type: 'button', class: 'act' }, 'Destroy');
  destroy.addEventListener('click', () =>
    ask(`Destroy ${name}`, { do: 'destroy-snapshot', snapshot: name }, [], 'The snapshot is lost for ever.'),
  );
  const element = h(
    'tr',
    {},
    h('th', { scope: 'row' }, `@${name.split('@')[1]}`),
    used,
    refers,
    made,
    h('td', { class: 'act' }, h('div', { class: 'buttons' }, back, destroy)),
  );
  /** @param {SnapshotSample} now */
  const update = (now) => {
    say(used, size(now.used));
    say(refers, size(now.referenced));
    say(made, date(now.createdAt));
  };
  return { element, update };
}
