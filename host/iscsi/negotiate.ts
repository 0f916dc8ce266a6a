import { LOGIN_DATA_BYTES } from './constants.ts';
import { type Pairs, parseNumber } from './text.ts';

/** What a session agreed on. Lengths in bytes. */
export interface Parameters {
  headerDigest: boolean;
  dataDigest: boolean;
  initialR2t: boolean;
  immediateData: boolean;
  /** The largest data segment that the initiator takes. */
  sendBytes: number;
  maxBurstBytes: number;
  firstBurstBytes: number;
  maxOutstandingR2t: number;
}

/** Before anything is negotiated: RFC 7143, 13. */
export const defaultParameters: Readonly<Parameters> = {
  headerDigest: false,
  dataDigest: false,
  initialR2t: true,
  immediateData: true,
  sendBytes: LOGIN_DATA_BYTES,
  maxBurstBytes: 262_144,
  firstBurstBytes: 65_536,
  maxOutstandingR2t: 1,
};

/** What the target offers: its side of each negotiation. */
export const offer = {
  /** MaxRecvDataSegmentLength: what one PDU of an initiator may carry. */
  receiveBytes: 256 << 10,
  maxBurstBytes: 1 << 20,
  /**
   * Data that come unasked with a command are here before anybody knows whether there is memory for it: FirstBurstLength
   * times the command window is what a session may have lying about.
   */
  firstBurstBytes: 64 << 10,
  maxOutstandingR2t: 4,
} as const;

const LENGTH_MIN = 512;
const LENGTH_MAX = 0xff_ffff;
const REJECT = 'Reject';
const IRRELEVANT = 'Irrelevant';

/** The answer to one key, whose result is noted in the parameters; undefined: it needs none. */
type Rule = (value: string, to: Parameters) => string | undefined;

/** The greatest or least of both sides' numbers. */
function number(
  min: number,
  max: number,
  ours: number,
  pick: (a: number, b: number) => number,
  note?: (to: Parameters, value: number) => void,
): Rule {
  return (value, to) => {
    const theirs = parseNumber(value, min, max);
    if (theirs === undefined) return REJECT;
    const result = pick(theirs, ours);
    note?.(to, result);
    return String(result);
  };
}

/** Yes where both say so (`and`), or where one does. */
function boolean(ours: boolean, and: boolean, note?: (to: Parameters, value: boolean) => void): Rule {
  return (value, to) => {
    if (value !== 'Yes' && value !== 'No') return REJECT;
    const theirs = value === 'Yes';
    const result = and ? ours && theirs : ours || theirs;
    note?.(to, result);
    return result ? 'Yes' : 'No';
  };
}

/** The first of the initiator's list that is known here. */
function first(known: readonly string[], note?: (to: Parameters, value: string) => void): Rule {
  return (value, to) => {
    const chosen = value.split(',').find((candidate) => known.includes(candidate));
    if (chosen === undefined) return REJECT;
    note?.(to, chosen);
    return chosen;
  };
}

/** Every key of the operational stage, with its function and bounds (RFC 7143, 13; RFC 7144 for the protocol level). */
const rules: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  [
    'HeaderDigest',
    first(['CRC32C', 'None'], (to, value) => {
      to.headerDigest = value === 'CRC32C';
    }),
  ],
  [
    'DataDigest',
    first(['CRC32C', 'None'], (to, value) => {
      to.dataDigest = value === 'CRC32C';
    }),
  ],
  ['MaxConnections', number(1, 65_535, 1, Math.min)],
  [
    'InitialR2T',
    boolean(false, false, (to, value) => {
      to.initialR2t = value;
    }),
  ],
  [
    'ImmediateData',
    boolean(true, true, (to, value) => {
      to.immediateData = value;
    }),
  ],
  [
    'MaxBurstLength',
    number(LENGTH_MIN, LENGTH_MAX, offer.maxBurstBytes, Math.min, (to, value) => {
      to.maxBurstBytes = value;
    }),
  ],
  [
    'FirstBurstLength',
    number(LENGTH_MIN, LENGTH_MAX, offer.firstBurstBytes, Math.min, (to, value) => {
      to.firstBurstBytes = value;
    }),
  ],
  [
    'MaxOutstandingR2T',
    number(1, 65_535, offer.maxOutstandingR2t, Math.min, (to, value) => {
      to.maxOutstandingR2t = value;
    }),
  ],
  ['DefaultTime2Wait', number(0, 3600, 2, Math.max)],
  ['DefaultTime2Retain', number(0, 3600, 0, Math.min)],
  ['DataPDUInOrder', boolean(true, false)],
  ['DataSequenceInOrder', boolean(true, false)],
  ['ErrorRecoveryLevel', number(0, 2, 0, Math.min)],
  ['TaskReporting', first(['RFC3720', 'ResponseFence'])],
  ['iSCSIProtocolLevel', number(0, 31, 1, Math.min)],
  ['IFMarker', boolean(false, true)],
  ['OFMarker', boolean(false, true)],
  ['IFMarkInt', () => IRRELEVANT],
  ['OFMarkInt', () => IRRELEVANT],
]);

/** Keys that are only for a normal session, whose answer in a discovery session is Irrelevant (RFC 7143, 13). */
const normalOnly: ReadonlySet<string> = new Set([
  'MaxConnections',
  'InitialR2T',
  'ImmediateData',
  'MaxBurstLength',
  'FirstBurstLength',
  'MaxOutstandingR2T',
  'DataPDUInOrder',
  'DataSequenceInOrder',
]);

/** Keys that may change after the login. */
const changeable: ReadonlySet<string> = new Set(['MaxRecvDataSegmentLength', 'InitiatorAlias']);

/**
 * Answers one key of the operational stage. `done` has the keys that were negotiated already: once is all (RFC 7143, 6.2).
 * Undefined: no answer.
 */
export function negotiate(
  key: string,
  value: string,
  to: Parameters,
  session: { readonly discovery: boolean; readonly done: Set<string> },
): string | undefined {
  if (value === 'NotUnderstood' || value === REJECT || value === IRRELEVANT) return undefined;
  if (key === 'MaxRecvDataSegmentLength') {
    const bytes = parseNumber(value, LENGTH_MIN, LENGTH_MAX);
    if (bytes === undefined) return REJECT;
    to.sendBytes = bytes;
    return undefined;
  }
  if (key === 'InitiatorAlias') return undefined;
  const rule = rules.get(key);
  if (rule === undefined) return 'NotUnderstood';
  if (session.done.has(key)) return REJECT;
  session.done.add(key);
  if (session.discovery && normalOnly.has(key)) return IRRELEVANT;
  return rule(value, to);
}

/** Answers one key of a text request: most are for the login only. */
export function renegotiate(key: string, value: string, to: Parameters): string | undefined {
  if (changeable.has(key)) return negotiate(key, value, to, { discovery: false, done: new Set() });
  return rules.has(key) ? REJECT : 'NotUnderstood';
}

/** After the login: FirstBurstLength never exceeds MaxBurstLength (RFC 7143, 13.14). */
export function settle(to: Parameters): void {
  to.firstBurstBytes = Math.min(to.firstBurstBytes, to.maxBurstBytes);
}

/** Keys of `pairs` that are not in `known`. */
export function* otherKeys(pairs: Pairs, known: ReadonlySet<string>): Iterable<[string, string]> {
  for (const [key, value] of pairs) if (!known.has(key)) yield [key, value];
}
