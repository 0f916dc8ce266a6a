import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../host/devices/faulty/faults.ts';
import type { VolumeHandle } from '../../host/volumes/volume.ts';
import type { ZowHost } from '../../host/zow.ts';
import { blockBytes, fillBlock } from './block.ts';
import type { Failing } from './layouts.ts';
import type { Existence, Promises, Request, VolumePromises } from './promises.ts';

/** How much is done; it ends when both the writers and the administrator have done their share. */
export interface Work {
  readonly requestsPerWriter: number;
  readonly changes: number;
}

interface Kind {
  readonly name: string;
  readonly blocks: number;
  readonly volblocksize: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/**
 * What is written, by several writers each: small records in the log blocks themselves; every request a commit; blocks
 * written in place and only pointed to by the log (WR_INDIRECT), because of logbias or of their size.
 */
const kinds: readonly Kind[] = [
  { name: 'plain', blocks: 256, volblocksize: '16K' },
  { name: 'always', blocks: 128, volblocksize: '4K', properties: { sync: 'always' } },
  { name: 'throughput', blocks: 256, volblocksize: '16K', properties: { logbias: 'throughput' } },
  { name: 'large', blocks: 512, volblocksize: '128K', properties: { compression: 'off' } },
];
const writersPerVolume = 3;

/**
 * Runs the writers and the administrator to their end; what they were promised, and between which moments. Of a pool that is
 * left as the fault made it they end when it works again: `end` waits for that, and closes what they have open.
 */
export async function workload(
  host: ZowHost,
  parent: string,
  seed: number,
  work: Work,
  now: () => number,
  fault?: Fault,
): Promise<{ promises: Promises; from: number; to: number; end: () => Promise<void> }> {
  const promises: Promises = { volumes: [], datasets: [], syncs: [], goneBack: [] };
  const tasks: (() => Promise<void>)[] = [];
  const opened: Subject[] = [];
  for (const [k, kind] of kinds.entries()) {
    const subject = await Subject.create(host, `${parent}/${kind.name}`, kind, now);
    opened.push(subject);
    promises.volumes.push(subject.promises);
    promises.datasets.push(subject.existence);
    for (let w = 0; w < writersPerVolume; w++) {
      const random = seededRandom(seed * 100 + k * 10 + w);
      tasks.push(() => tolerantly(() => writer(subject, random, work.requestsPerWriter)));
    }
  }
  await must(host, 'zpool', 'sync', 'tank');
  const from = now();
  const administration = seededRandom(seed);
  tasks.push(() => tolerantly(() => administrator(host, parent, promises, administration, work.changes, now)));
  const round = Promise.all(tasks.map((task) => task()));
  if (fault === undefined) {
    await round;
  } else {
    await breakFlushes(host, fault, promises, now, round);
    // And once more, on what the pool has become.
    if (fault.cleared) {
      for (const subject of opened) await subject.reopen();
      await Promise.all(tasks.map((task) => task()));
    }
  }
  return { promises, from, to: now(), end };

  async function end(): Promise<void> {
    await round;
    for (const subject of opened) await subject.close().catch(() => undefined);
  }

  /** Who meets a failed flush ends. */
  async function tolerantly(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (fault === undefined) throw error;
    }
  }
}

/** Flushes that fail for a while: `breaks` begins and ends it. */
export interface Fault extends Failing {
  readonly silently: boolean;
  readonly breaks: (now: boolean) => void;
}

/** Who waits for a txg of a suspended pool waits until it is cleared, as with a kernel. */
const lostMs = 2000;

/** Lets the flushes fail in the middle of the writers' work; some time later mends the disk and clears the pool. */
async function breakFlushes(
  host: ZowHost,
  fault: Fault,
  promises: Promises,
  now: () => number,
  writers: Promise<unknown>,
): Promise<void> {
  await sleep(300);
  fault.breaks(true);
  if (fault.silently) await sleep(100);
  else if (fault.redundant) await writers;
  else await Promise.race([writers, sleep(lostMs)]);
  if (!fault.cleared) return;
  fault.breaks(false);
  if (!fault.silently) {
    await must(host, 'zpool', 'clear', 'tank');
    if (!fault.redundant) promises.goneBack.push(now());
  }
  await writers;
}

async function must(host: ZowHost, program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await host.run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

/** A volume that is written, and what its writers were promised. */
class Subject {
  readonly promises: VolumePromises;
  readonly existence: Existence;
  readonly #host: ZowHost;
  #handle: VolumeHandle;
  readonly #durable: boolean;
  readonly #now: () => number;
  static #version = 0;

  static async create(host: ZowHost, name: string, kind: Kind, now: () => number): Promise<Subject> {
    const properties = { volblocksize: kind.volblocksize, ...kind.properties };
    const options = Object.entries(properties).flatMap(([property, value]) => ['-o', `${property}=${value}`]);
    const created: Request = { issued: now() };
    await must(host, 'zfs', 'create', '-s', '-V', String(kind.blocks * blockBytes), ...options, name);
    created.acked = now();
    const handle = await host.core.volumes.open(name, { readOnly: false });
    return new Subject(host, handle, kind, { name, created }, now);
  }

  private constructor(host: ZowHost, handle: VolumeHandle, kind: Kind, existence: Existence, now: () => number) {
    this.#host = host;
    this.#handle = handle;
    this.#durable = kind.properties?.sync === 'always';
    this.#now = now;
    this.existence = existence;
    this.promises = { name: existence.name, blocks: kind.blocks, writes: [], flushes: [] };
  }

  get blocks(): number {
    return this.promises.blocks;
  }

  async write(first: number, count: number, fua: boolean): Promise<void> {
    const version = ++Subject.#version;
    const buffer = await this.#host.core.volumes.buffers.acquire(count * blockBytes);
    for (let i = 0; i < count; i++) fillBlock(buffer.bytes.subarray(i * blockBytes), first + i, version);
    try {
      await this.#remember(first, count, version, fua, () => this.#handle.write(first * blockBytes, buffer, { fua }));
    } finally {
      buffer.release();
    }
  }

  async zero(first: number, count: number, fua: boolean, allocate: boolean): Promise<void> {
    const [offset, length] = [first * blockBytes, count * blockBytes];
    await this.#remember(first, count, 0, fua, () => this.#handle.zero(offset, length, { fua, allocate }));
  }

  /** Only whole volume blocks are trimmed; the rest keeps its content. */
  async trim(first: number, count: number, fua: boolean): Promise<void> {
    const unit = this.#handle.info.blockSize / blockBytes;
    const from = Math.ceil(first / unit) * unit;
    const to = Math.floor((first + count) / unit) * unit;
    const [offset, length] = [first * blockBytes, count * blockBytes];
    const run = () => this.#handle.trim(offset, length, { fua });
    await this.#remember(from, Math.max(0, to - from), 0, fua, run);
  }

  async flush(): Promise<void> {
    const flush: Request = { issued: this.#now() };
    this.promises.flushes.push(flush);
    await this.#handle.flush();
    flush.acked = this.#now();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** After the pool has come back: the handle is of the volume as it was before. */
  async reopen(): Promise<void> {
    await this.close().catch(() => undefined);
    this.#handle = await this.#host.core.volumes.open(this.promises.name, { readOnly: false });
  }

  async #remember(first: number, count: number, version: number, fua: boolean, run: () => Promise<void>) {
    const write = { first, count, version, durable: fua || this.#durable, issued: this.#now() };
    const entry: VolumePromises['writes'][number] = write;
    this.promises.writes.push(entry);
    await run();
    entry.acked = this.#now();
  }
}

async function writer(subject: Subject, random: () => number, requests: number): Promise<void> {
  const below = (n: number) => Math.floor(random() * n);
  for (let i = 0; i < requests; i++) {
    const count = random() < 0.5 ? 1 + below(4) : 1 + below(random() < 0.3 ? 64 : 16);
    // Half of the requests meet in an eighth of the volume: they overwrite each other.
    const room = random() < 0.5 ? Math.max(count, subject.blocks >> 3) : subject.blocks;
    const first = below(room - count + 1);
    const kind = random();
    if (kind < 0.6) await subject.write(first, count, false);
    else if (kind < 0.75) await subject.write(first, count, true);
    else if (kind < 0.87) await subject.flush();
    else if (kind < 0.94) await subject.trim(first, count, random() < 0.3);
    else await subject.zero(first, count, random() < 0.3, random() < 0.5);
    if (random() < 0.2) await sleep(below(10));
  }
}

/** Snapshots, volumes that come and go, and `zpool sync`: metadata on its way to the disks all the time. */
async function administrator(
  host: ZowHost,
  parent: string,
  promises: Promises,
  random: () => number,
  changes: number,
  now: () => number,
): Promise<void> {
  const request = async (run: () => Promise<void>, begun: (request: Request) => void = () => {}): Promise<Request> => {
    const made: Request = { issued: now() };
    begun(made);
    await run();
    made.acked = now();
    return made;
  };
  for (let i = 0; i < changes; i++) {
    const of = promises.volumes[Math.floor(random() * kinds.length)]!.name;
    const snapshot = `${of}@s${promises.datasets.length}`;
    await request(
      () => must(host, 'zfs', 'snapshot', snapshot),
      (created) => promises.datasets.push({ name: snapshot, created, of }),
    );
    if (i % 2 === 0) {
      const passing = await passingVolume(host, `${parent}/passing${promises.datasets.length}`, promises, random, now);
      await request(
        () => must(host, 'zfs', 'destroy', passing.name),
        (destroyed) => {
          passing.destroyed = destroyed;
        },
      );
    }
    const old = promises.datasets.find(({ of: volume, destroyed }) => volume !== undefined && destroyed === undefined);
    if (i % 3 === 2 && old !== undefined) {
      await request(
        () => must(host, 'zfs', 'destroy', old.name),
        (destroyed) => {
          old.destroyed = destroyed;
        },
      );
    }
    await request(
      () => must(host, 'zpool', 'sync', 'tank'),
      (sync) => promises.syncs.push(sync),
    );
    await sleep(Math.floor(random() * 30));
  }
}

/** A volume that is made, written and flushed, and left to be destroyed. */
async function passingVolume(
  host: ZowHost,
  name: string,
  promises: Promises,
  random: () => number,
  now: () => number,
): Promise<Existence> {
  const kind: Kind = { name, blocks: 64, volblocksize: '16K' };
  const subject = await Subject.create(host, name, kind, now);
  promises.volumes.push(subject.promises);
  promises.datasets.push(subject.existence);
  try {
    await writer(subject, random, 10);
    await subject.flush();
  } finally {
    // Also where a flush failed: an open volume keeps its pool from being exported.
    await subject.close();
  }
  return subject.existence;
}
