/**
 * Loaded into a host that is soaked (`node --import`), and so into its engines: writes to ZOW_SOAK_PROBE how long its event loop stood still, what its
 * thread did meanwhile, and what it holds. A JSON object a line; times are milliseconds of the machine's monotonic clock.
 */
import { ChildProcess } from 'node:child_process';
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const file = process.env.ZOW_SOAK_PROBE!;
const tickMs = 10;
const gapMs = 50;
const snapshotMs = 5000;
const lookMs = 1000;

/** Fibers that were started and have not ended; their names from the module itself. */
const fibers = new Set<number>();
let nameOf: (id: number) => string = () => '';

type Imports = NonNullable<ConstructorParameters<typeof WebAssembly.Instance>[1]>;
type Switch = (...ids: number[]) => void;

const Instance = WebAssembly.Instance;
WebAssembly.Instance = new Proxy(Instance, {
  construct(_target, [module, imports]: [WebAssembly.Module, Imports]) {
    const zow = imports.zow as Record<string, Switch> | undefined;
    const [spawn, exiting] = [zow?.['fiber-spawn'], zow?.['fiber-exiting']];
    if (zow === undefined || spawn === undefined || exiting === undefined) return new Instance(module, imports);
    zow['fiber-spawn'] = (id = 0) => {
      fibers.add(id);
      return spawn(id);
    };
    zow['fiber-exiting'] = (self = 0, next = 0) => {
      fibers.delete(self);
      return exiting(self, next);
    };
    const instance = new Instance(module, imports);
    const memory = (imports.env as unknown as { memory: WebAssembly.Memory }).memory;
    const fiberName = instance.exports['fiber-name'] as (id: number) => number;
    nameOf = (id) => {
      const bytes = new Uint8Array(memory.buffer, fiberName(id) >>> 0, 32);
      return Buffer.from(bytes.slice(0, bytes.indexOf(0))).toString();
    };
    return instance;
  },
});

/** Where each fiber was when it last gave up the processor, and when. */
const left = new Map<number, { at: number; from: Error }>();

const Suspending = WebAssembly.Suspending;
WebAssembly.Suspending = new Proxy(Suspending, {
  construct(_target, [call]: [(self: number, next: number) => Promise<void>]) {
    return new Suspending((self: number, next: number) => {
      left.set(self, { at: now(), from: new Error() });
      return call(self, next);
    });
  },
});
Error.stackTraceLimit = 40;

/** Who waits, since when, and where in the module. */
process.on('SIGUSR2', () => {
  const at = now();
  const lines = [...fibers].map((id) => {
    const { at: since = 0, from } = left.get(id) ?? {};
    const frames = [...(from?.stack ?? '').matchAll(/at (?:zow\.wasm\.)?([\w.]+) \(wasm:/g)].map(([, name]) => name);
    return `${nameOf(id)} ${id}, for ${((at - since) / 1000).toFixed(1)} s: ${frames.join(' < ')}\n`;
  });
  writeFileSync(`${file}.${process.pid}.fibers`, lines.sort().join(''));
});

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** How long this thread has waited for processes that it started to begin: a new one needs a processor, and Node waits for that. */
let spawnedMs = 0;
const { spawn } = ChildProcess.prototype as unknown as { spawn: (...options: unknown[]) => number };
Object.assign(ChildProcess.prototype, {
  spawn(this: ChildProcess, ...options: unknown[]): number {
    const began = now();
    try {
      return spawn.apply(this, options);
    } finally {
      spawnedMs += now() - began;
    }
  },
});

/** What this thread has run, and what it has waited for a processor, milliseconds. */
function schedule(): [runMs: number, waitMs: number] {
  const [run = 0, wait = 0] = readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ').map(Number);
  return [run / 1e6, wait / 1e6];
}

/** By thread: what it had waited for a processor when it was looked at last. */
let waits = new Map<string, number>();

/** The longest that one of the threads has waited for a processor since the last look, milliseconds. */
function threadsWaited(): number {
  const before = waits;
  waits = new Map();
  let most = 0;
  for (const thread of readdirSync('/proc/self/task')) {
    let wait = 0;
    try {
      wait = Number(readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
    } catch {
      continue;
    }
    waits.set(thread, wait);
    most = Math.max(most, wait - (before.get(thread) ?? wait));
  }
  return most;
}

function say(line: object): void {
  appendFileSync(file, `${JSON.stringify({ pid: process.pid, ...line })}\n`);
}

let last = now();
let lastSchedule = schedule();
let lastSpawnedMs = spawnedMs;
let said = last;
let looked = last;
setInterval(() => {
  const at = now();
  const [run, wait] = schedule();
  if (at - last > gapMs) {
    const [lastRun, lastWait] = lastSchedule;
    const [runMs, waitMs] = [run - lastRun, wait - lastWait];
    // The thread waits, too, for others of V8 and libuv that have no processor, and for children that have none.
    const starved = Math.max(threadsWaited(), spawnedMs - lastSpawnedMs);
    const starvedMs = Math.max(0, Math.min(at - last - runMs - waitMs, starved));
    say({ kind: 'gap', from: last, to: at, runMs, waitMs, starvedMs });
    looked = at;
  } else if (at - looked > lookMs) {
    threadsWaited();
    looked = at;
  }
  if (at - said > snapshotMs) {
    const { rss, external, heapUsed } = process.memoryUsage();
    const names = [...fibers].map(nameOf).sort();
    const resources = process.getActiveResourcesInfo().sort();
    say({ kind: 'snapshot', at, rss, external, heapUsed, fibers: names, resources });
    said = at;
  }
  last = now();
  lastSchedule = schedule();
  lastSpawnedMs = spawnedMs;
}, tickMs).unref();
