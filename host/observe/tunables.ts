import type { Inspector } from '../core/dev-zfs.ts';
import { Errno, ErrnoError, errnoName } from '../errno.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import type { Json, NvList } from '../nvlist/nvlist.ts';
import { suggest } from '../suggest.ts';
import { InspectError } from './inspect-error.ts';

/** A module parameter of OpenZFS. */
export interface Tunable {
  readonly name: string;
  readonly value: string;
  /** `text`: it has a setter of its own that is not of one of the other types. `ulong` has 32 bits. */
  readonly type: 'int' | 'uint' | 'ulong' | 'u64' | 'string' | 'text';
  /** False: it can be set when the host starts, by its configuration, and not later. */
  readonly writable: boolean;
  readonly description: string;
}

const ranges = {
  int: 'a whole number from -2147483648 to 2147483647',
  uint: 'a whole number from 0 to 4294967295',
  ulong: 'a whole number from 0 to 4294967295',
  u64: 'a whole number from 0 to 18446744073709551615',
} as const;

/** What the core lists (wasm/core/services/inspect.h), by name. */
export function decodeTunables(packed: Uint8Array): Tunable[] {
  const list = (decodeNativeNvlist(packed).get('tunables') ?? []) as readonly NvList[];
  return list
    .map((entry) => ({
      name: entry.get('name') as string,
      value: entry.get('value') as string,
      type: entry.get('type') as Tunable['type'],
      writable: entry.get('writable') === true,
      description: entry.get('description') as string,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The tunable of a name. Throws InspectError, with the name that was meant. */
export function findTunable(tunables: readonly Tunable[], name: string): Tunable {
  const found = tunables.find((tunable) => tunable.name === name);
  if (found !== undefined) return found;
  const meant = suggest(
    name,
    tunables.map((tunable) => tunable.name),
  );
  const hint = meant === undefined ? '' : `; did you mean '${meant}'?`;
  throw new InspectError(Errno.ENOENT, `there is no tunable '${name}'${hint}`);
}

/** Why `value` was refused. */
export function tunableRefusal(tunables: readonly Tunable[], name: string, value: string, errno: number): InspectError {
  let tunable: Tunable;
  try {
    tunable = findTunable(tunables, name);
  } catch (error) {
    return error as InspectError;
  }
  const { type } = tunable;
  if (errno === Errno.EACCES) {
    return new InspectError(errno, `${name} can only be set when the host starts, by 'tunables' of its configuration`);
  }
  const shown = value.length > 60 ? `${value.slice(0, 60)}…` : value;
  if (type !== 'string' && type !== 'text' && !fits(type, value)) {
    return new InspectError(errno, `${name} must be ${ranges[type]}, not '${shown}'`);
  }
  const what = tunable.description === '' ? '' : ` (${tunable.description})`;
  return new InspectError(
    errno,
    `${name}${what} does not take '${shown}': ${errnoName(errno)}; it is '${tunable.value}'`,
  );
}

function fits(type: keyof typeof ranges, value: string): boolean {
  if (!/^[+-]?(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.test(value)) return false;
  const digits = value.replace(/^[+-]/, '').replace(/^0(?=[0-7])/, '0o');
  const number = value.startsWith('-') ? -BigInt(digits) : BigInt(digits);
  if (type === 'int') return number >= -(2n ** 31n) && number < 2n ** 31n;
  return number >= 0n && number < (type === 'u64' ? 2n ** 64n : 2n ** 32n);
}

/** Sets a tunable. Rejects with InspectError. */
export async function setTunable(inspector: Inspector, name: string, value: string): Promise<void> {
  try {
    if (name.includes('\0') || value.includes('\0')) throw new ErrnoError(Errno.EINVAL);
    await inspector.setTunable(name, value);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw tunableRefusal(decodeTunables(await inspector.tunables()), name, value, error.errno);
  }
}

/** For programs: numbers as numbers, where JavaScript's are exact. */
export function tunableJson({ name, value, type, writable, description }: Tunable): Json {
  const number = type === 'string' || type === 'text' ? Number.NaN : Number(value);
  return { name, value: Number.isSafeInteger(number) ? number : value, type, writable, description };
}
