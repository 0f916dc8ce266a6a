import { quote } from '../quote.ts';

/** What can be done on the page, and the command of zpool's or zfs' that does it. */

export interface Command {
  readonly program: 'zpool' | 'zfs';
  readonly args: readonly string[];
  /** What has to be typed before it is run: it takes something away. */
  readonly confirm?: string;
}

/** A request that cannot be understood; its message is for who made it. */
export class ActionError extends Error {}

type Fields = Readonly<Record<string, unknown>>;

// zfs_namecheck.c. The programs check again; here it is made sure that a name is no option, and one word.
const COMPONENT = '[A-Za-z0-9_.: -]*[A-Za-z0-9_.:-]';
const POOL = /^[A-Za-z][A-Za-z0-9_.: -]*$/;
const DATASET = new RegExp(`^[A-Za-z][A-Za-z0-9_.: -]*(/${COMPONENT})*$`);
const SNAPSHOT_PART = new RegExp(`^${COMPONENT}$`);
const SIZE = /^\d{1,19}(\.\d{1,3})?[KMGTPE]?$/i;
const WORD = /^[a-z0-9][a-z0-9.-]{0,31}$/i;
/** ZFS_MAX_DATASET_NAME_LEN, without its NUL. */
const NAME_MAX = 255;

const commands: Readonly<Record<string, (fields: Fields) => Command>> = {
  scrub: (fields) => zpool('scrub', pool(fields)),
  'scrub-pause': (fields) => zpool('scrub', '-p', pool(fields)),
  'scrub-stop': (fields) => zpool('scrub', '-s', pool(fields)),
  clear: (fields) => zpool('clear', pool(fields)),
  snapshot: (fields) => zfs('snapshot', `${name(fields, 'dataset', DATASET)}@${name(fields, 'name', SNAPSHOT_PART)}`),
  rollback: (fields) => {
    const snapshot = snapshotOf(fields);
    return { ...zfs('rollback', ...flag(fields, 'newer', '-r'), snapshot), confirm: snapshot };
  },
  create: (fields) =>
    zfs(
      'create',
      ...flag(fields, 'sparse', '-s'),
      ...optional(fields, 'volblocksize', SIZE).flatMap((value) => ['-o', `volblocksize=${value}`]),
      ...optional(fields, 'compression', WORD).flatMap((value) => ['-o', `compression=${value}`]),
      '-V',
      name(fields, 'size', SIZE),
      name(fields, 'dataset', new RegExp(`${DATASET.source.slice(0, -1)}/${COMPONENT}$`)),
    ),
  destroy: (fields) => {
    const dataset = name(fields, 'dataset', DATASET);
    if (!dataset.includes('/')) throw new ActionError('dataset: a pool is not destroyed here');
    return { ...zfs('destroy', ...flag(fields, 'snapshots', '-r'), dataset), confirm: dataset };
  },
  'destroy-snapshot': (fields) => {
    const snapshot = snapshotOf(fields);
    return { ...zfs('destroy', snapshot), confirm: snapshot };
  },
};

/** @throws ActionError */
export function commandOf(fields: Fields): Command {
  const kind = fields.do;
  const command = typeof kind === 'string' && Object.hasOwn(commands, kind) ? commands[kind]! : undefined;
  if (command === undefined) throw new ActionError(`do: must be one of ${Object.keys(commands).join(', ')}`);
  return command(fields);
}

/** As a person would type it. */
export function commandLine({ program, args }: Command): string {
  return [program, ...args.map(quote)].join(' ');
}

function zpool(...args: string[]): Command {
  return { program: 'zpool', args };
}

function zfs(...args: string[]): Command {
  return { program: 'zfs', args };
}

function pool(fields: Fields): string {
  return name(fields, 'pool', POOL);
}

function snapshotOf(fields: Fields): string {
  const [dataset = '', part = '', ...rest] = name(fields, 'snapshot', /@/).split('@');
  if (!DATASET.test(dataset) || !SNAPSHOT_PART.test(part) || rest.length > 0)
    throw new ActionError('snapshot: is not the name of one');
  return `${dataset}@${part}`;
}

function name(fields: Fields, key: string, pattern: RegExp): string {
  const value = fields[key];
  if (typeof value !== 'string' || value === '') throw new ActionError(`${key}: is missing`);
  if (value.length > NAME_MAX || !pattern.test(value))
    throw new ActionError(`${key}: '${value.slice(0, 80)}' cannot be`);
  return value;
}

function optional(fields: Fields, key: string, pattern: RegExp): string[] {
  const value = fields[key];
  if (value === undefined || value === '') return [];
  if (typeof value !== 'string' || !pattern.test(value)) throw new ActionError(`${key}: cannot be`);
  return [value];
}

function flag(fields: Fields, key: string, option: string): string[] {
  const value = fields[key] ?? false;
  if (typeof value !== 'boolean') throw new ActionError(`${key}: must be true or false`);
  return value ? [option] : [];
}
