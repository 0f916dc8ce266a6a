import { setAccess } from './act.mjs';
import { byId, say } from './dom.mjs';
import { forgetEvents, showClients, showEngines, showEvents, showTroubles, silence } from './others.mjs';
import { showAdvice, showPools } from './pools.mjs';
import { showSpace, showVolumes } from './volumes.mjs';

/** @import { PageState } from '../state.ts' */

/** Without a word for so long the page says so, and asks anew after so long, milliseconds. */
const SILENT_MS = 4_000;
const DEAD_MS = 15_000;
const AGAIN_MS = 3_000;

/** @type {PageState | undefined} */
let before;
/** @type {EventSource | undefined} */
let source;
let heardAt = performance.now();
let askedAt = heardAt;
let host = '';

function connect() {
  source?.close();
  source = new EventSource('live');
  askedAt = performance.now();
  /**
   * @param {string} name
   * @param {(data: any) => void} take
   */
  const on = (name, take) =>
    source?.addEventListener(name, (event) => {
      heardAt = performance.now();
      take(JSON.parse(event.data));
    });
  on('hello', (hello) => {
    host = hello.host;
    say(byId('host'), host);
    setAccess(hello.access);
    // It may be another host than before.
    before = undefined;
    forgetEvents();
  });
  on('state', show);
  on('space', showSpace);
  on('advice', showAdvice);
  on('events', showEvents);
}

/** @param {PageState} state */
function show(state) {
  showPools(state, before);
  showTroubles(state);
  showVolumes(state, before);
  showClients(state, before);
  showEngines(state, before);
  announce(state);
  const worst = state.pools.find((pool) => pool.state !== 'ONLINE');
  document.title = `${worst === undefined ? '' : `${worst.name} ${worst.state} – `}${host} – ZoW`;
  before = state;
  say(connection, 'live');
  connection.dataset.state = 'live';
  document.body.classList.remove('is-silent');
}

/**
 * Says what has changed to who does not see it.
 * @param {PageState} state
 */
function announce({ pools }) {
  if (before === undefined) return;
  const news = pools.flatMap(({ name, state, details }) => {
    const past = before?.pools.find((pool) => pool.name === name);
    if (past === undefined) return [`Pool ${name} is there, ${state}.`];
    const scan = details?.scan;
    const was = past.details?.scan;
    return [
      ...(past.state === state ? [] : [`Pool ${name} is ${state}.`]),
      ...(scan === undefined || (scan.state === was?.state && scan.startedAt === was.startedAt)
        ? []
        : [`${name}: ${scan.kind} ${scan.state === 'scanning' ? 'has begun' : scan.state}.`]),
    ];
  });
  for (const { name } of before.pools)
    if (!pools.some((pool) => pool.name === name)) news.push(`Pool ${name} is gone.`);
  if (news.length > 0) say(byId('said'), news.join(' '));
}

const connection = byId('connection');
setInterval(() => {
  const silentMs = performance.now() - heardAt;
  if (silentMs < SILENT_MS) return;
  say(connection, silence(silentMs / 1000));
  connection.dataset.state = 'silent';
  document.body.classList.add('is-silent');
  // A browser gives up where it was refused; and a connection can be dead without anybody saying so.
  const patienceMs = source?.readyState === EventSource.CLOSED ? AGAIN_MS : DEAD_MS;
  if (performance.now() - Math.max(askedAt, heardAt) > patienceMs) connect();
}, 1_000);
connect();
