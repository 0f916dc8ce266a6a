import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IoctlResult } from '../../host/core/dev-zfs.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { NvList } from '../../host/nvlist/nvlist.ts';
import { type Call, cmdFields, TestCore, type TestSession } from '../host/core/fixture.ts';
import { describe, type Input, Inputs, Streams, table, tree } from './core-input.ts';
import { type Known, known } from './known.ts';

/**
 * Fuzzes the ioctls of the real core, structured by upstream's own table: every number, names that exist and some that do not,
 * the pairs that the table asks for, fields of zfs_cmd_t, mutated bytes, several sessions that close in the middle, each other's
 * descriptors, and send streams that were damaged. A core lives for some thousand inputs, in a process of its own.
 *
 *   node test/fuzz/core.ts [inputs] [seed] [processes]
 *   node test/fuzz/core.ts again SEED [FROM] [TO] [LANES]    a life once more, or some of its inputs; what it did is printed
 *
 * Input n of a seed is always the same, whatever was before it; how they overlap is not. ZOW_WASM=build/2.4.3/wasm-debug is how
 * it finds most: then upstream asserts.
 */

/** One of so many allocations that may fail does, where the core is a debug build: ZOW_FUZZ_STORM=200. Default: none. */
const storm = Number(process.env.ZOW_FUZZ_STORM ?? 0);
/** Inputs of one core. */
const lifetime = 20_000;
/** So many are under way at a time. */
const lanesDefault = 8;
/** What waits is left behind, and its session closed, when so many others are over, or after so long. */
const patience = { inputs: 100, ms: 50, msAlone: 300, msSuspended: 2000 };
/** Sessions that are left behind, and not closed yet. */
const leftMax = 12;
/** Inputs until what the pool had is there again, and until it is a new pool. */
const mendEvery = 250;
const renewEvery = 5000;
/** A core that answers nothing for so long hangs. */
const hangMs = 120_000;
const eagain = 11;
const MiB = 1024 ** 2;

export interface FuzzOptions {
  readonly inputs: number;
  readonly seed: number;
  /** The first of them. */
  readonly from?: number;
  readonly lanes?: number;
  readonly progress?: (input: number, name: string, errno: number) => void;
}

export interface FuzzResult {
  readonly inputs: number;
  readonly ok: number;
  /** How often each ioctl succeeded. */
  readonly succeeded: ReadonlyMap<string, number>;
  /** How the core ended, if it did. */
  readonly lost: string | undefined;
}

interface Lane {
  session: TestSession;
  /** When its input began, how many were over then, and what has it left behind. */
  since: number;
  done: number;
  leave: (() => void) | undefined;
}

/** One core's life: ioctls that a seed chooses. */
class Life {
  readonly core: TestCore;
  readonly #inputs: Inputs;
  readonly #options: FuzzOptions;
  readonly #witness: TestSession;
  readonly #lanes: Lane[] = [];
  /** Closes of sessions that were left behind. */
  readonly #left = new Set<Promise<unknown>>();
  readonly #under = new Set<number>();
  readonly #last: number[] = [];
  readonly #succeeded = new Map<string, number>();
  #next: number;
  #done = 0;
  #ok = 0;
  #lost: string | undefined;
  /** The pool is suspended for good. */
  #retired = false;
  #mending: Promise<void> | undefined;

  constructor(core: TestCore, witness: TestSession, options: FuzzOptions) {
    this.core = core;
    this.#witness = witness;
    this.#options = options;
    this.#inputs = new Inputs(options.seed);
    this.#next = options.from ?? 0;
    // Who called the function that asserts is far out.
    Error.stackTraceLimit = 40;
    void core.core.lost.then(({ message, file, line, fiber, stack }) =>
      this.#end(
        `${message} at ${file}:${line} [${fiber}] ${(stack ?? []).filter((name) => !/zow_panic|libspl_assertf|\.end$|spa_next|pool_names/.test(name)).join(' < ')}`,
      ),
    );
  }

  async run(): Promise<FuzzResult> {
    try {
      await this.#live();
    } catch (error) {
      await sleep(10);
      // The core's end is how whatever was asked of it fails.
      if (this.#lost === undefined) throw error;
    }
    await this.core.core.close();
    return { inputs: this.#done, ok: this.#ok, succeeded: this.#succeeded, lost: this.#lost };
  }

  async #live(): Promise<void> {
    const pool = new Pool(this.core, this.#witness);
    await pool.populate();
    this.#inputs.streams.push(...(await pool.streams()));
    await this.#look(pool);
    this.#inputs.configs.push(...(await pool.configs()));
    this.#inputs.ids.push(...(await pool.ids()));
    if (storm > 0) await this.core.core.inspector.setTunable('zow_memory_storm', String(storm));
    const { lanes = lanesDefault } = this.#options;
    const watch = setInterval(() => this.#watch(), 10);
    await Promise.all(Array.from({ length: lanes }, (_, i) => this.#lane(i, pool)));
    clearInterval(watch);
    const closed = Promise.all([...this.#lanes.map(({ session }) => session.close()), ...this.#left]);
    await Promise.race([closed.catch(() => undefined), sleep(this.#retired ? 100 : 20_000, undefined, { ref: false })]);
    if (this.#lost === undefined && (await pool.answers(hangMs / 2)) === undefined)
      this.#end(`it does not answer any more; ${await pool.state()}`);
  }

  /** What devices there are now. */
  async #look(pool: Pool): Promise<void> {
    const { errno, dst } = await pool.stats();
    if (errno === 0) this.#inputs.guids.splice(0, Infinity, ...guids(dst));
  }

  #end(how: string): void {
    if (this.#lost !== undefined) return;
    const last = [...new Set([...this.#last, ...this.#under])].sort((a, b) => a - b);
    const inputs = last.map((i) => `${i}${this.#under.has(i) ? '*' : ''} ${describe(this.#inputs.make(i))}`);
    this.#lost = `${how}\nseed ${this.#options.seed}; the last inputs, and with a star those under way:\n${inputs.join('\n')}`;
    for (const lane of this.#lanes) lane.leave?.();
  }

  async #lane(number: number, pool: Pool): Promise<void> {
    const lane: Lane = { session: await this.#open(number), since: 0, done: 0, leave: undefined };
    this.#lanes.push(lane);
    const { inputs, from = 0 } = this.#options;
    while (this.#next < from + inputs && this.#lost === undefined && !this.#retired) {
      const i = this.#next++;
      if (i % mendEvery === mendEvery - 1) await this.#mend(pool, i % renewEvery === renewEvery - 1);
      if (this.#left.size >= leftMax) await Promise.race([...this.#left, sleep(500)]);
      const input = this.#inputs.make(i);
      // Now and then another's session, which may close meanwhile.
      const session = (i * 7) % 16 === 0 ? this.#lanes[i % this.#lanes.length]!.session : lane.session;
      await this.#one(lane, session, i, input);
      if (lane.leave !== undefined) {
        lane.leave = undefined;
        await this.#reopen(lane, number);
      } else if (i % 97 === 0) await this.#reopen(lane, number);
    }
    lane.leave = undefined;
  }

  /** One input, until it is over or left behind. */
  #one(lane: Lane, session: TestSession, i: number, input: Input): Promise<void> {
    this.#under.add(i);
    this.#last.push(i);
    if (this.#last.length > 40) this.#last.shift();
    lane.since = performance.now();
    lane.done = this.#done;
    return new Promise((resolve) => {
      lane.leave = resolve;
      const over = (errno: number): void => {
        this.#under.delete(i);
        this.#done++;
        if (errno === 0) {
          this.#ok++;
          this.#succeeded.set(`${input.name}`, (this.#succeeded.get(`${input.name}`) ?? 0) + 1);
        }
        this.#options.progress?.(i, `${input.name}`, errno);
        // Only who was not left behind.
        if (lane.leave === resolve) lane.leave = undefined;
        resolve();
      };
      session.ioctl(input.name, input.call).then(
        ({ errno }) => over(errno),
        () => over(-1),
      );
    });
  }

  #watch(): void {
    const now = performance.now();
    for (const lane of this.#lanes) {
      const ms = now - lane.since;
      const isSlow = ms > patience.ms && this.#done - lane.done > patience.inputs;
      if (isSlow || ms > patience.msAlone) lane.leave?.();
    }
  }

  #open(number: number): Promise<TestSession> {
    return this.core.open('dd'.repeat(16), 3 + (number % 4));
  }

  async #reopen(lane: Lane, number: number): Promise<void> {
    const closing: Promise<void> = lane.session.close().catch(() => undefined);
    this.#left.add(closing);
    void closing.then(() => this.#left.delete(closing));
    try {
      lane.session = await this.#open(number);
    } catch {
      // The core is gone.
    }
  }

  /** What the inputs took from the pool comes again; one lane does it, while the others go on. */
  #mend(pool: Pool, anew: boolean): Promise<void> {
    const mended = pool.mend(anew).then(
      (isGood) => this.#look(pool).then(() => isGood),
      () => true,
    );
    this.#mending ??= pool.unlessSuspended(mended, 60_000).then((isGood) => {
      this.#retired ||= isGood !== true;
      this.#mending = undefined;
    });
    return this.#mending;
  }
}

/** Resolves with undefined when it takes too long. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  const timer = new AbortController();
  const late = sleep(ms, undefined, { signal: timer.signal }).catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

const features = Object.fromEntries(
  [
    ...readFileSync(join(tree, 'module/zcommon/zfeature_common.c'), 'utf8').matchAll(
      /zfeature_register\(SPA_FEATURE_\w+,\s*"[^"]*",\s*"(\w+)"/g,
    ),
  ].map(([, name]): [string, bigint] => [`feature@${name}`, 0n]),
);

/** The pool tank, and what is in it for the fuzzer to find. */
class Pool {
  readonly #core: TestCore;
  readonly #session: TestSession;

  constructor(core: TestCore, session: TestSession) {
    this.#core = core;
    this.#session = session;
    for (const name of ['a', 'b', 'c', 'tank', 'pond']) core.disk(name, 64 * MiB);
  }

  stats(): Promise<IoctlResult> {
    return this.#session.ioctl('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 1 << 17 });
  }

  /** As stats; undefined when it takes too long. */
  answers(ms: number): Promise<IoctlResult | undefined> {
    return this.unlessSuspended(this.stats(), ms);
  }

  /** Resolves with undefined when `work` takes too long, or when the pool has been suspended for a while and is still waited for. */
  async unlessSuspended<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
    const end = performance.now() + ms;
    const nothing = Symbol();
    for (let suspended = 0; performance.now() < end; ) {
      const one = await Promise.race([work, sleep(patience.msSuspended / 10, nothing, { ref: false })]);
      if (one !== nothing) return one as T;
      suspended = (await this.state()).includes('SUSPENDED') ? suspended + 1 : 0;
      if (suspended >= 10) return undefined;
    }
    return undefined;
  }

  /** What the pool is, as asked without any lock of it. */
  async state(): Promise<string> {
    try {
      const kstat = await within(this.#core.core.inspector.kstat('zfs/tank/state'), 5000);
      return `tank is ${kstat === undefined ? 'silent' : /[A-Z]{4,}/.exec(Buffer.from(kstat).toString('latin1'))}`;
    } catch {
      return 'there is no tank';
    }
  }

  /** False: the pool is suspended, and stays so (a disk's path may be another's). */
  async mend(anew: boolean): Promise<boolean> {
    for (let handlers = 0; handlers < 40; handlers++) {
      const { errno, cmd } = await this.#session.ioctl('INJECT_LIST_NEXT', {});
      if (errno !== 0) break;
      await this.#quiet('CLEAR_FAULT', { cmd: { guid: Buffer.from(cmd).readBigUInt64LE(cmdFields.guid[0]) } });
    }
    await this.#quiet('CLEAR', { cmd: { name: 'tank', cookie: 1 }, src: { 'rewind-request': 1 } });
    if ((await within(this.#quiet('POOL_SYNC', { cmd: { name: 'tank' } }), 10_000)) === eagain) return false;
    for (const name of anew ? ['tank', 'pond'] : []) await this.#quiet('POOL_DESTROY', { cmd: { name } });
    for (const name of anew ? [] : ['tank/secret/c', 'tank/new/b', 'tank/new', 'tank/recv']) {
      const snaps = Object.fromEntries(['one', 'two', 's', 'three'].map((tag) => [`${name}@${tag}`, true as const]));
      await this.#quiet('DESTROY_SNAPS', { cmd: { name: 'tank' }, src: { snaps } });
      await this.#quiet('DESTROY', { cmd: { name } });
    }
    await this.populate();
    return true;
  }

  async populate(): Promise<void> {
    const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n };
    if ((await this.stats()).errno !== 0) await this.#create('tank');
    const secret = {
      type: 2,
      props: { ...zpl, encryption: 8n, keyformat: 1n, keylocation: 'prompt' },
      hidden_args: { wkeydata: new Uint8Array(32) },
    };
    const volume = { type: 3, props: { volsize: 8n << 20n, volblocksize: 8192n } };
    for (const [name, src] of [
      ['tank/fs', { type: 2, props: zpl }],
      ['tank/fs/a', { type: 2, props: zpl }],
      ['tank/vol', volume],
      ['tank/secret', secret],
    ] as const) {
      if ((await this.#quiet('OBJSET_STATS', { cmd: { name } })) === 0) continue;
      if ((await this.#quiet('CREATE', { cmd: { name }, src })) === 0 && name === 'tank/vol') await this.#write();
    }
    for (const tag of ['one', 'two'])
      for (const name of ['tank', 'tank/fs', 'tank/vol', 'tank/secret'])
        if ((await this.#quiet('OBJSET_STATS', { cmd: { name: `${name}@${tag}` } })) !== 0)
          await this.#quiet('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps: { [`${name}@${tag}`]: true } } });
    if ((await this.#quiet('OBJSET_STATS', { cmd: { name: 'tank/clone' } })) !== 0)
      await this.#quiet('CLONE', { cmd: { name: 'tank/clone' }, src: { origin: 'tank/fs@one' } });
    if ((await this.#quiet('OBJSET_STATS', { cmd: { name: 'tank/clone@two' } })) !== 0)
      await this.#quiet('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps: { 'tank/clone@two': true } } });
    await this.#quiet('BOOKMARK', {
      cmd: { name: 'tank' },
      src: { 'tank/fs#mark': 'tank/fs@one', 'tank/vol#mark': 'tank/vol@one' },
    });
  }

  /** Streams of each kind. */
  async streams(): Promise<Buffer[]> {
    const streams: Buffer[] = [];
    for (const [name, flags] of [
      ['tank/fs@one', {}],
      ['tank/vol@two', {}],
      ['tank/vol@two', { compressok: true, embedok: true, largeblockok: true }],
      ['tank/secret@one', { rawok: true }],
      ['tank/fs@two', { fromsnap: 'tank/fs@one' }],
    ] as const) {
      const channel = new Streams(Buffer.alloc(0));
      await this.#quiet('SEND_NEW', { cmd: { name }, src: { fd: 1, ...flags }, streams: channel });
      const stream = Buffer.concat(channel.written);
      if (stream.length >= 624) streams.push(stream);
    }
    return streams;
  }

  /** Numbers of data sets. */
  async ids(): Promise<bigint[]> {
    const ids: bigint[] = [];
    for (const name of ['tank/fs', 'tank/fs@one', 'tank/vol@two', 'tank/clone', 'tank/secret@one']) {
      const { dst } = await this.#session.ioctl('OBJSET_STATS', { cmd: { name }, dstRoom: 65536 });
      const bytes = Buffer.from(dst);
      const at = bytes.indexOf('value\0', bytes.indexOf('objsetid\0'));
      if (at > 0) ids.push(bytes.readBigUInt64LE(at + 8));
    }
    return ids;
  }

  /** The pool's own, and that of one that can be imported. */
  async configs(): Promise<{ name: string; guid: bigint; bytes: Buffer }[]> {
    const configs: { name: string; guid: bigint; bytes: Buffer }[] = [];
    await this.#create('pond');
    for (const name of ['tank', 'pond']) {
      const { dst } = await this.#session.ioctl('POOL_STATS', { cmd: { name }, dstRoom: 1 << 17 });
      const bytes = Buffer.from(dst);
      configs.push({ name, guid: guids(bytes)[0] ?? 0n, bytes });
    }
    await this.#quiet('POOL_EXPORT', { cmd: { name: 'pond' } });
    return configs;
  }

  /** With all features. */
  async #create(name: string): Promise<void> {
    const disk = { type: 'file', path: `/disks/${name}`, ashift: 12n, is_log: 0n };
    await this.#quiet('POOL_CREATE', { cmd: { name }, src: features, conf: { type: 'root', children: [disk] } });
  }

  async #quiet(name: string, call: Call): Promise<number> {
    return (await this.#session.ioctl(name, { dstRoom: 65536, ...call })).errno;
  }

  async #write(): Promise<void> {
    const { volumes } = this.#core.core;
    try {
      const volume = await volumes.open('tank/vol', { readOnly: false });
      for (let i = 0; i < 8; i++) {
        const buffer = await volumes.buffers.acquire(16384);
        buffer.bytes.fill(i === 3 ? 0 : i * 17);
        buffer.bytes.set(Buffer.from(`block ${i}`), i * 100);
        await volume.write(i * 65536, buffer, { fua: false });
        buffer.release();
      }
      await volume.flush();
      await volume.close();
    } catch {
      // It may not have come, or be gone already.
    }
  }
}

/** Numbers of the pool and its disks, of a list in native encoding. */
function guids(packed: Uint8Array): bigint[] {
  const inside = (list: NvList): bigint[] =>
    list.pairs.flatMap(({ name, value }) => {
      if (name === 'pool_guid' || name === 'guid') return [value as bigint];
      return [value].flat().flatMap((each) => (each instanceof NvList ? inside(each) : []));
    });
  return packed.length === 0 ? [] : [...new Set(inside(decodeNativeNvlist(packed)))].slice(0, 16);
}

/** One core's life. */
export async function fuzzCore(options: FuzzOptions): Promise<FuzzResult> {
  const core = await TestCore.load({ memoryBytes: 256 * MiB });
  return new Life(core, await core.open('cc'.repeat(16), 3), options).run();
}

interface Told {
  readonly seed: number;
  readonly inputs: number;
  readonly ok: number;
  readonly succeeded: readonly [string, number][];
  readonly lost?: string;
}

/** What of the list a core's end is. */
export function knownEnd({ lost, succeeded }: Pick<Told, 'lost' | 'succeeded'>): Known | undefined {
  const [how = ''] = lost?.split('\n') ?? [];
  const isInjected = succeeded.some(([name]) => name === 'INJECT_FAULT');
  return known.find((each) => each.match.test(how) && (isInjected || !each.isInjected));
}

/** Runs one life in a child process; resolves with what it said, or that it hangs. */
function life(inputs: number, seed: number): Promise<Told> {
  const child = spawn(process.execPath, [import.meta.filename, 'life', String(inputs), String(seed)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-4000);
  });
  let result: Told | undefined;
  let hangs = false;
  const kill = () => {
    hangs = true;
    child.kill('SIGKILL');
  };
  let late = setTimeout(kill, hangMs);
  createInterface({ input: child.stdout }).on('line', (line) => {
    clearTimeout(late);
    late = setTimeout(kill, hangMs);
    if (line.startsWith('{')) result = JSON.parse(line);
  });
  return new Promise((resolve) =>
    child.on('close', (code, signal) => {
      clearTimeout(late);
      const reason = hangs ? 'it hangs' : `the process ended with ${code ?? signal}`;
      resolve(result ?? { seed, inputs: 0, ok: 0, succeeded: [], lost: `${reason} (seed ${seed})\n${stderr}` });
    }),
  );
}

async function main(): Promise<void> {
  const [inputs = 100_000, seed = Date.now() % 2 ** 31, processes = 1] = process.argv.slice(2).map(Number);
  const seen = new Map<string, number>();
  const expected = new Map<Known, number>();
  const succeeded = new Map<string, number>();
  const start = performance.now();
  let done = 0;
  let ok = 0;
  let next = seed;
  const worker = async (): Promise<void> => {
    while (done < inputs) {
      const one = await life(Math.min(lifetime, inputs), next++);
      done += one.inputs;
      ok += one.ok;
      for (const [name, count] of one.succeeded) succeeded.set(name, (succeeded.get(name) ?? 0) + count);
      if (one.lost === undefined) continue;
      const reason = knownEnd(one);
      if (reason !== undefined) {
        expected.set(reason, (expected.get(reason) ?? 0) + 1);
        process.stdout.write(`-- after ${done} inputs: seed ${one.seed}, known: ${one.lost.split('\n')[0]}\n`);
        continue;
      }
      const kind = one.lost
        .split('\n')[0]!
        .replaceAll(/0x[0-9a-f]+|\d{3,}/g, 'N')
        .slice(0, 160);
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      if (seen.get(kind)! <= 2) process.stdout.write(`-- after ${done} inputs: ${one.lost}\n`);
    }
  };
  await Promise.all(Array.from({ length: processes }, worker));
  const rate = Math.round((done / (performance.now() - start)) * 1000);
  const sum = (counts: Map<unknown, number>) => [...counts.values()].reduce((a, b) => a + b, 0);
  const lost = sum(seen);
  process.stdout.write(
    `${done} inputs from seed ${seed}, ${rate} a second, ${ok} succeeded, ${lost} cores lost, and ${sum(expected)} as is known\n`,
  );
  for (const [{ match, reason }, count] of expected)
    process.stdout.write(`${count} × known: ${match.source}: ${reason}\n`);
  for (const [kind, count] of seen) process.stdout.write(`${count} × ${kind}\n`);
  const never = table.map(({ name }) => name).filter((name) => !succeeded.has(name));
  process.stdout.write(`never succeeded: ${never.join(' ')}\n`);
  process.exitCode = seen.size === 0 ? 0 : 1;
}

/** A life in this process, which says what it did. */
async function again(): Promise<void> {
  const [seed = 1, from = 0, to = lifetime, lanes = lanesDefault] = process.argv.slice(3).map(Number);
  const progress = (i: number, name: string, errno: number) => process.stdout.write(`${i} ${name} ${errno}\n`);
  const { lost } = await fuzzCore({ seed, from, inputs: to - from, lanes, progress });
  process.stdout.write(`${lost ?? 'it lives'}\n`);
  process.exit(lost === undefined ? 0 : 1);
}

if (process.argv[1] === import.meta.filename) {
  if (process.argv[2] === 'life') {
    let lines = 0;
    const seed = Number(process.argv[4]);
    const { inputs, ok, succeeded, lost } = await fuzzCore({
      inputs: Number(process.argv[3]),
      seed,
      progress: () => {
        if (lines++ % 50 === 0) process.stdout.write('.\n');
      },
    });
    process.stdout.write(`${JSON.stringify({ seed, inputs, ok, succeeded: [...succeeded], lost })}\n`);
    process.exit(0);
  } else if (process.argv[2] === 'again') await again();
  else await main();
}
