import { resolve } from 'node:path';
import { suggest } from '../suggest.ts';

/** The `vdevs` list of a pool, read by the grammar of `zpool create`. */
export interface VdevSpec {
  /** The arguments for `zpool create`, devices as absolute paths. */
  readonly args: readonly string[];
  readonly leaves: readonly VdevLeaf[];
  /** The top-level vdevs that store data. */
  readonly data: readonly DataVdev[];
  /** For people: `2 × mirror of 2, log (1)`. */
  readonly summary: string;
}

export interface DataVdev {
  readonly paths: readonly string[];
  /** How many of the devices' worth of space is for data: 1 of a mirror. */
  readonly dataDevices: number;
}

export type VdevRole = 'data' | 'log' | 'cache' | 'spare' | 'special' | 'dedup';

export interface VdevLeaf {
  /** Absolute path. */
  readonly path: string;
  readonly role: VdevRole;
  /** Index in the configuration's list. */
  readonly index: number;
}

export interface VdevProblem {
  /** Index in the list; undefined when it is about the list as a whole. */
  readonly index: number | undefined;
  readonly message: string;
}

/** Ours, below upstream's INT_MAX: a bound on what one pool opens. */
const LEAVES_MAX = 1024;
const GROUP_MAX = 255;
const DRAID_SPARES_MAX = 100;
const DRAID_DATA_DEFAULT = 8;

interface Group {
  readonly word: string;
  readonly index: number;
  readonly kind: 'mirror' | 'raidz' | 'draid' | 'cache' | 'spare';
  readonly children: number;
}

/**
 * Reads a vdev list as construct_spec() of cmd/zpool/zpool_vdev.c does, without opening anything. Relative devices are
 * resolved against `directory`. Returns all that is wrong, in the order of the list.
 */
export function parseVdevs(words: readonly string[], directory: string): VdevSpec | readonly VdevProblem[] {
  const problems: VdevProblem[] = [];
  const args: string[] = [];
  const leaves: VdevLeaf[] = [];
  const groups: Group[] = [];
  const data: DataVdev[] = [];
  const seen = new Set<string>();
  let role: VdevRole = 'data';
  let stripes = 0;
  let roleUsed = true;
  let index = 0;

  const checkRoleUsed = () => {
    if (!roleUsed)
      problems.push({ index: index - 1, message: `'${words[index - 1]}' must be followed by a device or a vdev` });
    roleUsed = true;
  };
  const leaf = (word: string, leafRole: VdevRole, at: number) => {
    const path = resolve(directory, word);
    args.push(path);
    leaves.push({ path, role: leafRole, index: at });
  };

  while (index < words.length) {
    const word = words[index]!;
    if (word === 'log' || word === 'special' || word === 'dedup') {
      checkRoleUsed();
      if (word === 'log' && seen.has('log')) problems.push({ index, message: `'log' can be given only once` });
      seen.add(word);
      role = word;
      roleUsed = false;
      args.push(word);
      index++;
      continue;
    }
    const kind = groupKind(word);
    if (kind === undefined) {
      const problem = deviceProblem(word);
      if (problem !== undefined) problems.push({ index, message: problem });
      leaf(word, role, index);
      if (role === 'data') {
        stripes++;
        data.push({ paths: [resolve(directory, word)], dataDevices: 1 });
      }
      roleUsed = true;
      index++;
      continue;
    }
    if (kind === 'cache' || kind === 'spare') {
      checkRoleUsed();
      if (seen.has(kind)) problems.push({ index, message: `'${kind}' can be given only once` });
      seen.add(kind);
      role = kind;
    } else if (role === 'log' && kind !== 'mirror') {
      problems.push({ index, message: `a log can be single devices or mirrors, not ${word}` });
    }
    roleUsed = true;
    args.push(word);
    let end = index + 1;
    while (end < words.length && !isKeyword(words[end]!)) {
      const problem = deviceProblem(words[end]!);
      if (problem !== undefined) problems.push({ index: end, message: problem });
      leaf(words[end]!, role, end);
      end++;
    }
    const group = { word, index, kind, children: end - index - 1 };
    const problem = groupProblem(group);
    if (problem !== undefined) problems.push({ index, message: problem });
    if (role === 'data') {
      groups.push(group);
      const paths = words.slice(index + 1, end).map((device) => resolve(directory, device));
      data.push({ paths, dataDevices: kind === 'mirror' ? 1 : group.children - parity(word) });
    }
    // As upstream: what follows the devices of a cache or spare group begins an ordinary vdev again.
    if (kind === 'cache' || kind === 'spare') role = 'data';
    index = end;
  }
  checkRoleUsed();
  if (!leaves.some((candidate) => candidate.role === 'data') && problems.length === 0) {
    problems.push({ index: undefined, message: 'needs at least one device that stores data' });
  }
  if (leaves.length > LEAVES_MAX) problems.push({ index: undefined, message: `has more than ${LEAVES_MAX} devices` });
  if (problems.length > 0) return problems;
  return { args, leaves, data, summary: summarize(groups, stripes, leaves) };
}

/** Whether a word of the list is a keyword of the grammar and not a device. */
function isKeyword(word: string): boolean {
  return word === 'log' || word === 'special' || word === 'dedup' || groupKind(word) !== undefined;
}

function groupKind(word: string): Group['kind'] | undefined {
  if (word === 'mirror' || word === 'cache' || word === 'spare') return word;
  if (parity(word) === 0) return undefined;
  return word.startsWith('raidz') ? 'raidz' : 'draid';
}

/** As get_parity(): 1 to 3, or 0 for what is no raidz or draid keyword. */
function parity(word: string): number {
  const match = /^(?:raidz([123]?)|draid([123]?)(?::.*)?)$/.exec(word);
  if (match === null) return 0;
  return Number((match[1] ?? match[2]) || '1');
}

function deviceProblem(word: string): string | undefined {
  if (word === '') return 'a device cannot be an empty string';
  if (word.includes('\0')) return 'a device cannot contain a NUL character';
  // Upstream would take these for device names and fail later with a message about a missing file.
  if (/^(raidz|draid)\d+(:.*)?$/.test(word)) return `'${word}' is no vdev type; raidz and draid have parity 1, 2 or 3`;
  if (/^mirror\d+$/.test(word)) return `'${word}' is no vdev type; it is called mirror, whatever its width`;
  return misspelled(word);
}

/** The words of the grammar, and what people write for some of them. */
const WORDS = ['mirror', 'mirrors', 'raidz', 'draid', 'log', 'logs', 'cache', 'spare', 'spares', 'special', 'dedup'];

/**
 * A bare word close to one of the grammar would become a disk that nobody meant, in a pool without redundancy. `log1` is a
 * disk, and so is everything with a `/` or a `.`.
 */
function misspelled(word: string): string | undefined {
  if (/[/.]/.test(word)) return undefined;
  const letters = word.replace(/[\d-]*(:.*)?$/, '');
  const meant = letters.length < 3 ? undefined : suggest(letters, WORDS);
  if (meant === undefined || (letters === meant && word !== letters)) return undefined;
  return `'${word}' is no vdev type; did you mean '${meant.replace(/s$/, '')}'? A file of that name is './${word}'`;
}

function groupProblem(group: Group): string | undefined {
  const { word, kind, children } = group;
  const min = kind === 'mirror' ? 2 : kind === 'raidz' || kind === 'draid' ? parity(word) + 1 : 1;
  if (children < min) {
    return `${word} requires at least ${min} device${min === 1 ? '' : 's'}, ${children} given`;
  }
  if ((kind === 'raidz' || kind === 'draid') && children > GROUP_MAX) {
    return `${word} supports no more than ${GROUP_MAX} devices, ${children} given`;
  }
  return kind === 'draid' ? draidProblem(word, children) : undefined;
}

/** As draid_config_by_type(). */
function draidProblem(word: string, children: number): string | undefined {
  const options = word.split(':').slice(1);
  let data: number | undefined;
  let spares = 0;
  for (const option of options) {
    const match = /^(\d{1,6})([cds])$/i.exec(option);
    if (match === null) return `'${word}': expected draid[1|2|3][:<number>d][:<number>c][:<number>s]`;
    const value = Number(match[1]);
    if (match[2]!.toLowerCase() === 'd') data = value;
    else if (match[2]!.toLowerCase() === 's') spares = value;
    else if (value !== children) return `'${word}' says ${value} children, but ${children} devices are given`;
  }
  const available = children - spares - parity(word);
  if (available < 1) return `'${word}': ${children} devices leave none for data`;
  data ??= Math.min(available, DRAID_DATA_DEFAULT);
  if (data < 1 || data > available) {
    return `'${word}': ${data} data devices a group, but ${children} devices leave at most ${available}`;
  }
  if (spares > DRAID_SPARES_MAX) return `'${word}': at most ${DRAID_SPARES_MAX} spares`;
  return undefined;
}

const MIB = 1024 ** 2;
/** Four labels and the boot block: VDEV_LABEL_START_SIZE and VDEV_LABEL_END_SIZE. */
const LABELS_BYTES = 4.5 * MIB;
/** spa_min_slop and spa_max_slop of module/zfs/spa_misc.c. */
const SLOP_BYTES_MIN = 128 * MIB;
const SLOP_BYTES_MAX = 128 * 1024 * MIB;

/**
 * More bytes than a pool of such devices can ever give to volumes: what is left after redundancy, labels, and the space
 * that spa_get_slop_space() keeps back. `sizeBytes` is asked for each device.
 */
export function capacityBound(spec: VdevSpec, sizeBytes: (path: string) => number): number {
  const space = spec.data.reduce(
    (sum, vdev) => sum + vdev.dataDevices * Math.max(0, Math.min(...vdev.paths.map(sizeBytes)) - LABELS_BYTES),
    0,
  );
  const slop = Math.max(Math.min(space / 32, SLOP_BYTES_MAX), Math.min(space / 2, SLOP_BYTES_MIN));
  return Math.ceil((space - slop) / MIB) * MIB;
}

function summarize(groups: readonly Group[], stripes: number, leaves: readonly VdevLeaf[]): string {
  const parts: string[] = [];
  const counted = new Map<string, number>();
  for (const group of groups) {
    const text = `${group.word} of ${group.children}`;
    counted.set(text, (counted.get(text) ?? 0) + 1);
  }
  for (const [text, count] of counted) parts.push(count === 1 ? text : `${count} × ${text}`);
  if (stripes > 0) parts.push(stripes === 1 ? '1 device' : `stripe of ${stripes}`);
  for (const role of ['special', 'dedup', 'log', 'cache', 'spare'] as const) {
    const count = leaves.filter((candidate) => candidate.role === role).length;
    if (count > 0) parts.push(`${role} (${count})`);
  }
  return parts.join(', ');
}
