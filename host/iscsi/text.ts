import { ProtocolError } from '../net/errors.ts';

/** Pairs of one request; nothing an initiator asks for has as many. */
const PAIRS_MAX = 256;
/** Names of keys, RFC 7143, 6.1. */
const KEY = /^[A-Z][A-Za-z0-9.\-+@_#]{0,62}$/;

export type Pairs = Map<string, string>;

/**
 * The `key=value` pairs of a login or text request (RFC 7143, 6.1), each ended by a NUL; some initiators leave out the last
 * one. @throws ProtocolError
 */
export function parsePairs(bytes: Buffer): Pairs {
  const pairs: Pairs = new Map();
  for (const item of bytes.toString('utf8').split('\0')) {
    if (item === '') continue;
    const equals = item.indexOf('=');
    const key = item.slice(0, equals);
    if (equals < 0 || !KEY.test(key)) throw new ProtocolError('text that is no key=value pair');
    if (pairs.has(key)) throw new ProtocolError(`the key ${key} twice in one request`);
    if (pairs.size >= PAIRS_MAX) throw new ProtocolError(`more than ${PAIRS_MAX} keys`);
    pairs.set(key, item.slice(equals + 1));
  }
  return pairs;
}

/** Pairs as they go over the wire; a key may stand more than once. */
export function encodePairs(pairs: Iterable<readonly [key: string, value: string]>): Buffer {
  let text = '';
  for (const [key, value] of pairs) text += `${key}=${value}\0`;
  return Buffer.from(text);
}

/** A numerical value, decimal or 0x…; undefined when it is none, or not within the bounds. */
export function parseNumber(text: string, min: number, max: number): number | undefined {
  if (!/^(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}

/** A binary value: `0x` and hexadecimal digits, or `0b` and base64. Undefined when it is neither, or too long. */
export function parseBinary(text: string, bytesMax: number): Buffer | undefined {
  const prefix = text.slice(0, 2).toLowerCase();
  const digits = text.slice(2);
  if (digits.length === 0 || digits.length > 2 * bytesMax + 1) return undefined;
  let bytes: Buffer | undefined;
  if (prefix === '0x' && /^[0-9a-fA-F]+$/.test(digits)) {
    bytes = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
  } else if (prefix === '0b' && /^[A-Za-z0-9+/]+={0,2}$/.test(digits)) {
    bytes = Buffer.from(digits, 'base64');
  }
  return bytes === undefined || bytes.length > bytesMax ? undefined : bytes;
}
