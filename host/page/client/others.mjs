import { byId, h, list, say } from './dom.mjs';
import { date, duration, latency, percent, rate, size } from './format.mjs';
import { speed } from './graph.mjs';
import { isSilent } from './pools.mjs';

/** @import { FeedEvent } from '../event-feed.ts' */
/** @import { PagePool, PageState } from '../state.ts' */
/** @import { LiveEngine } from '../../metrics/live.ts' */
/** @import { ClientSummary } from '../../volumes/client-connection.ts' */

/** States of a pool that should answer; what is wrong with others the host says. */
const SERVING = new Set(['ONLINE', 'DEGRADED']);
/** Events that are shown. */
const EVENTS_MAX = 200;

/**
 * What is wrong with the host as a whole and with its pools, or that nothing is.
 * @param {PageState} state
 */
export function showTroubles({ troubles, pools, time }) {
  const known = new Set(troubles);
  const all = [...known, ...pools.flatMap((pool) => troublesOf(pool, time)).filter((text) => !known.has(text))];
  const isWell = all.length === 0;
  const texts = isWell ? [pools.length === 0 ? 'The host is ready.' : 'All pools are well.'] : all;
  const element = byId('troubles');
  element.dataset.level = isWell ? 'good' : known.size > 0 ? 'bad' : 'warn';
  list(
    element,
    texts,
    (text) => text,
    (text) => ({ element: h('li', {}, text), update: () => {} }),
  );
}

/**
 * A pool can be ONLINE although one of its devices is FAULTED.
 * @param {PagePool} pool
 * @param {number} now
 */
function troublesOf({ name, state, details }, now) {
  if (SERVING.has(state) && isSilent(name, now)) return [`pool ${name} is ${state} and does not answer`];
  const { vdevs = [], dataErrors = 0, scan, works = [] } = details ?? {};
  const resilvers =
    (scan?.kind === 'resilver' && scan.state === 'scanning') || works.some(({ kind }) => kind === 'rebuild');
  const isGroup = (/** @type {number} */ at) => (vdevs[at + 1]?.depth ?? 0) > (vdevs[at]?.depth ?? 0);
  const out = vdevs.filter((vdev, at) => vdev.state !== 'ONLINE' && vdev.note !== 'in use' && !isGroup(at));
  const devices = out.map((vdev) => `${vdev.name.slice(vdev.name.lastIndexOf('/') + 1)} is ${vdev.state}`);
  const shown = devices.length > 3 ? [...devices.slice(0, 3), `${devices.length - 3} others`] : devices;
  return [
    ...(state === 'DEGRADED' || devices.length > 0 ? [`pool ${[`${name} is ${state}`, ...shown].join(', ')}`] : []),
    ...(resilvers ? [`pool ${name} is resilvering`] : []),
    ...(dataErrors === 0 ? [] : [`pool ${name} has ${dataErrors} data errors`]),
  ];
}

/**
 * @param {PageState} state
 * @param {PageState | undefined} before
 */
export function showClients({ clients, at }, before) {
  const seconds = before === undefined ? 0 : at - before.at;
  /** @type {Map<string, number>} */
  const seen = new Map();
  const keyed = (/** @type {readonly ClientSummary[]} */ all) =>
    all.map((client) => {
      // Clients of a unix socket have the same name: they keep their order.
      const name = `${client.protocol} ${client.peer} ${client.volumes.join()}`;
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      return { key: `${name} ${count}`, client };
    });
  const past = new Map(keyed(before?.clients ?? []).map(({ key, client }) => [key, client]));
  seen.clear();
  const items = keyed(clients).map(({ key, client }) => ({
    key,
    client,
    bytes: speed(client.bytes, past.get(key)?.bytes, seconds),
  }));
  const table = byId('clients');
  table.hidden = items.length === 0;
  byId('no-clients').hidden = items.length > 0;
  const body = /** @type {HTMLTableElement} */ (table).tBodies[0];
  if (body === undefined) return;
  list(
    body,
    items,
    ({ key }) => key,
    () => {
      const peer = h('th', { scope: 'row' });
      const protocol = h('td', { 'data-label': 'Protocol' });
      const volumes = h('td', { 'data-label': 'Volumes' });
      const bytes = h('td', { class: 'number', 'data-label': 'Traffic' });
      return {
        element: h('tr', {}, peer, protocol, volumes, bytes),
        update: (/** @type {{ client: ClientSummary, bytes: number }} */ item) => {
          say(peer, item.client.peer);
          say(protocol, { nbd: 'NBD', iscsi: 'iSCSI' }[item.client.protocol]);
          say(volumes, item.client.volumes.join(', ') || '–');
          say(bytes, rate(item.bytes));
        },
      };
    },
  );
}

/**
 * @param {PageState} state
 * @param {PageState | undefined} before
 */
export function showEngines({ engines, release, at }, before) {
  const seconds = before === undefined ? 0 : at - before.at;
  const items = engines.map((engine) => ({
    engine,
    past: before?.engines.find(({ index }) => index === engine.index),
  }));
  list(
    byId('engines'),
    items,
    ({ engine }) => String(engine.index),
    ({ engine }) => {
      const title = engines.length > 1 ? `Engine ${engine.index}` : `OpenZFS ${release}`;
      const figures = ['Processor', 'Memory', 'ARC', 'Found in the ARC', 'Event loop late'].map((label) => {
        const value = h('dd');
        return { value, element: h('div', {}, h('dt', {}, label), value) };
      });
      const element = h(
        'div',
        { class: 'engine' },
        h('h3', {}, title),
        h('div', { class: 'tiles' }, ...figures.map((figure) => figure.element)),
      );
      /** @param {{ engine: LiveEngine, past: LiveEngine | undefined }} item */
      const update = ({ engine: now, past }) => {
        const hits = now.arc.hits - (past?.arc.hits ?? now.arc.hits);
        const misses = now.arc.misses - (past?.arc.misses ?? now.arc.misses);
        const texts = [
          percent(speed(now.cpuSeconds, past?.cpuSeconds, seconds)),
          size(now.residentBytes),
          `${size(now.arc.size)} of ${size(now.arc.max)}`,
          hits + misses === 0 ? '–' : percent(hits / (hits + misses)),
          latency(now.lateSeconds),
        ];
        for (const [i, text] of texts.entries()) if (figures[i] !== undefined) say(figures[i].value, text);
      };
      return { element, update };
    },
  );
}

/** @type {FeedEvent[]} */
let events = [];

/** Before all events come again. */
export function forgetEvents() {
  events = [];
}

/** @param {readonly FeedEvent[]} more oldest first */
export function showEvents(more) {
  const known = new Set(events.map(({ id }) => id));
  events = [...events, ...more.filter(({ id }) => !known.has(id))].slice(-EVENTS_MAX);
  byId('no-events').hidden = events.length > 0;
  list(byId('events'), events.toReversed(), ({ id }) => id, eventPart);
}

/** @param {FeedEvent} event */
function eventPart({ time, class: name, pool, about, details }) {
  const short = name
    .replace(/^(sysevent|ereport|resource)\.fs\.zfs\./, '')
    .replaceAll('_', ' ')
    .replace('history event', 'history');
  const level = name.startsWith('ereport.') ? 'bad' : /statechange|removed|vdev_remove/.test(name) ? 'warn' : 'plain';
  const element = h(
    'li',
    { 'data-level': level },
    h(
      'details',
      {},
      h(
        'summary',
        {},
        h('time', {}, date(time)),
        h('b', {}, short),
        h('span', { class: 'about' }, pool === '' || about.includes(pool) ? about : `${pool} ${about}`),
      ),
      h('pre', {}, `${name}\n${details}`),
    ),
  );
  return { element, update: () => {} };
}

/** @param {number} seconds without an answer */
export function silence(seconds) {
  return `no answer for ${duration(seconds)}`;
}
