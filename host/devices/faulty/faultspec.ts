import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno, type ErrnoName } from '../../errno.ts';
import type { Device } from '../device.ts';
import { type Operation, operations } from '../wrapper.ts';
import { DelayDevice, ErrorDevice, type FaultCondition, FaultTrigger, ShortDevice } from './faults.ts';
import { VolatileDevice } from './volatile.ts';

/**
 * Faults for a real host process, from ZOW_FAULTS:
 *
 *   ZOW_FAULTS='disks/a.img:error(op=read,p=0.1,errno=EIO);disks/b.img:delay(op=write|flush,ms=5)'
 *
 * Rules are separated by `;`. A rule is a disk, as its whole path or the end of it, and a fault. Several rules for one
 * disk stack, the first nearest to the disk; state (counters, caches) begins anew each time the disk is opened.
 *
 *   error(errno=EIO)              fails
 *   delay(ms=N)                   takes effect N milliseconds later
 *   hang(while=PATH)               takes effect when the file of `while` is gone
 *   short(align=1)                transfers only a part
 *   volatile(lies=no,cache=67108864)  write cache of so many bytes that a SIGKILL loses; lies=yes: flush does nothing
 *                                 failing=PATH: while that file exists, a flush fails, and of what the cache holds only
 *                                 some is written (each write with the chance kept=0.5)
 *
 * All but `volatile` also take when: op=read|write|flush|trim|writeZeroes, p=PROBABILITY, seed=N, nth=N, times=N,
 * from=BYTE, to=BYTE (exclusive), while=PATH (only while that file exists).
 */
export interface FaultRule {
  readonly disk: string;
  readonly wrap: (inner: Device) => Device;
}

/** The rules in ZOW_FAULTS; none when it is unset. Throws an Error that names the part it does not understand. */
export function faultsFromEnvironment(): readonly FaultRule[] {
  return parseFaults(process.env.ZOW_FAULTS ?? '');
}

/** Puts the faults that are for this device around it. */
export function withFaults(device: Device, rules: readonly FaultRule[]): Device {
  return rules
    .filter(({ disk }) => device.name === disk || path.resolve(device.name).endsWith(path.join('/', disk)))
    .reduce((inner, rule) => rule.wrap(inner), device);
}

/** Parses rules as described above. Throws an Error that names the part it does not understand. */
export function parseFaults(spec: string): readonly FaultRule[] {
  return spec
    .split(';')
    .map((rule) => rule.trim())
    .filter((rule) => rule !== '')
    .map(parseRule);
}

function parseRule(rule: string): FaultRule {
  const match = /^(.+):(\w+)\((.*)\)$/.exec(rule);
  if (match === null) throw new Error(`ZOW_FAULTS: ${rule} is not of the form DISK:FAULT(KEY=VALUE,…)`);
  const [, disk = '', fault = '', list = ''] = match;
  const parameters = new Parameters(rule, list);
  const make = faults[fault];
  if (make === undefined)
    throw new Error(`ZOW_FAULTS: ${rule}: no fault ${fault}; there are ${Object.keys(faults).join(', ')}`);
  const wrap = make(parameters);
  parameters.allUsed();
  return { disk, wrap };
}

const faults: Record<string, (parameters: Parameters) => FaultRule['wrap']> = {
  error(parameters) {
    const errno = Errno[parameters.word('errno', Object.keys(Errno), 'EIO') as ErrnoName];
    const when = condition(parameters);
    return (inner) => new ErrorDevice(inner, new FaultTrigger(when), errno);
  },
  delay(parameters) {
    const delayMs = parameters.number('ms') ?? 0;
    const when = condition(parameters);
    return (inner) => new DelayDevice(inner, new FaultTrigger(when), delayMs);
  },
  hang(parameters) {
    const when = condition(parameters);
    const file = when.whileExists;
    if (file === undefined) throw parameters.error('hang', 'possible without while=PATH');
    const untilGone = async () => {
      while (fs.existsSync(file)) await sleep(20);
    };
    return (inner) => new DelayDevice(inner, new FaultTrigger(when), untilGone);
  },
  short(parameters) {
    const align = parameters.number('align') ?? 1;
    const when = condition(parameters);
    return (inner) => new ShortDevice(inner, new FaultTrigger(when), align, when.seed);
  },
  volatile(parameters) {
    const liesAboutFlush = parameters.word('lies', ['yes', 'no'], 'no') === 'yes';
    const cacheBytesMax = parameters.number('cache');
    const failing = parameters.text('failing');
    const keptByFailure = parameters.number('kept');
    return (inner) =>
      new VolatileDevice(inner, {
        liesAboutFlush,
        ...(cacheBytesMax !== undefined && { cacheBytesMax }),
        ...(failing !== undefined && { flushFails: () => fs.existsSync(failing) }),
        ...(keptByFailure !== undefined && { keptByFailure }),
      });
  },
};

function condition(parameters: Parameters): FaultCondition {
  const ops = parameters.text('op');
  const numbers = {
    probability: parameters.number('p'),
    seed: parameters.number('seed'),
    nth: parameters.number('nth'),
    times: parameters.number('times'),
    from: parameters.number('from'),
    to: parameters.number('to'),
  };
  const whileExists = parameters.text('while');
  return {
    ...(ops !== undefined && { operations: ops.split('|').map((op) => operation(parameters, op)) }),
    ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)),
    ...(whileExists !== undefined && { whileExists }),
  };
}

function operation(parameters: Parameters, word: string): Operation {
  const found = operations.find((known) => known === word);
  if (found === undefined) throw parameters.error(`op=${word}`, `one of ${operations.join(', ')}`);
  return found;
}

/** `KEY=VALUE,…`: each key once, each known, each used. */
class Parameters {
  readonly #rule: string;
  readonly #values: Map<string, string>;

  constructor(rule: string, list: string) {
    this.#rule = rule;
    const pairs = list.split(',').filter((pair) => pair !== '');
    this.#values = new Map(
      pairs.map((pair) => [pair.split('=', 1)[0]!.trim(), pair.slice(pair.indexOf('=') + 1).trim()]),
    );
  }

  text(key: string): string | undefined {
    const value = this.#values.get(key);
    this.#values.delete(key);
    return value;
  }

  number(key: string): number | undefined {
    const value = this.text(key);
    if (value === undefined) return undefined;
    const number = Number(value);
    if (value === '' || !(number >= 0)) throw this.error(`${key}=${value}`, 'a number');
    return number;
  }

  word(key: string, words: readonly string[], otherwise: string): string {
    const value = this.text(key) ?? otherwise;
    if (!words.includes(value)) throw this.error(`${key}=${value}`, `one of ${words.join(', ')}`);
    return value;
  }

  allUsed(): void {
    const [key] = this.#values.keys();
    if (key !== undefined) throw this.error(key, 'a parameter of this fault');
  }

  error(found: string, allowed: string): Error {
    return new Error(`ZOW_FAULTS: ${this.#rule}: ${found} is not ${allowed}`);
  }
}
