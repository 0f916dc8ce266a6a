import { NAME_BYTES_MAX } from './constants.ts';

/** Where the targets' names begin, unless the configuration says otherwise. */
export const PREFIX_DEFAULT = 'iqn.2026-11.io.zow';

/** iqn, eui and naa names (RFC 7143, 4.2.7), after the preparation of RFC 3722. */
const NAME =
  /^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9.-]+(:[a-z0-9.:-]+)?|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32}))$/;

/** Names that differ in case only are the same name. */
export function prepareName(name: string): string {
  return name.normalize('NFKC').toLowerCase();
}

/** Whether it can be an iSCSI name. */
export function isName(name: string): boolean {
  return Buffer.byteLength(name) <= NAME_BYTES_MAX && NAME.test(name);
}

/**
 * The name of a volume's own target: `tank/vm0` is `iqn…:tank:vm0`. What an iSCSI name cannot have (RFC 3722) is written as
 * a dot and two hexadecimal digits, and so are dots and colons: no two datasets have the same. Undefined: it would be too
 * long.
 */
export function targetName(prefix: string, dataset: string): string | undefined {
  let text = `${prefix}:`;
  for (const byte of Buffer.from(dataset)) {
    const character = String.fromCharCode(byte);
    if (character === '/') text += ':';
    else if (/[a-z0-9-]/.test(character)) text += character;
    else text += `.${byte.toString(16).padStart(2, '0')}`;
  }
  return text.length <= NAME_BYTES_MAX ? text : undefined;
}

/**
 * Datasets that a target's name may mean, the most likely first: as `targetName` writes it, else what a user would type,
 * `iqn…:tank/vm0@monday`.
 */
export function datasetsOf(prefix: string, name: string): string[] {
  if (!name.toLowerCase().startsWith(`${prefix}:`)) return [];
  const rest = name.slice(prefix.length + 1);
  const escaped = rest.replaceAll(':', '/').replaceAll(/\.([0-9a-f]{2})/gi, '%$1');
  const candidates = [rest, rest.replaceAll(':', '/')];
  try {
    if (!rest.includes('%')) candidates.unshift(decodeURIComponent(escaped));
  } catch {
    // No UTF-8: then it is not written so.
  }
  return [...new Set(candidates)];
}

/** The number that eight bytes of LUN name; undefined for what no logical unit here can have (SAM-5, 4.7). */
export function parseLun(bytes: Buffer): number | undefined {
  if (bytes.readUInt32BE(4) !== 0 || bytes.readUInt16BE(2) !== 0) return undefined;
  const method = bytes[0]! >> 6;
  if (method === 0 && bytes[0] === 0) return bytes[1]!;
  if (method === 1) return bytes.readUInt16BE(0) & 0x3fff;
  return undefined;
}

/** Eight bytes of LUN: peripheral device addressing. */
export function encodeLun(lun: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes[1] = lun;
  return bytes;
}
