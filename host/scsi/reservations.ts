import type { Command } from './cdb.ts';
import { Asc, PrIn, PrOut } from './constants.ts';
import { decodeTransportId, encodeTransportId, type InitiatorPort, portKey } from './nexus.ts';
import {
  good,
  illegal,
  invalidCdb,
  invalidParameter,
  type Outcome,
  reservationConflict,
  type Sense,
  SenseError,
} from './sense.ts';

/** TYPE of a persistent reservation (SPC-4, table 63). */
export const PrType = {
  WRITE_EXCLUSIVE: 1,
  EXCLUSIVE_ACCESS: 3,
  WRITE_EXCLUSIVE_REGISTRANTS_ONLY: 5,
  EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: 6,
  WRITE_EXCLUSIVE_ALL_REGISTRANTS: 7,
  EXCLUSIVE_ACCESS_ALL_REGISTRANTS: 8,
} as const;

/** Registrations of one logical unit: what fits into one user property of a dataset, 8 KiB, with names as long as allowed. */
export const REGISTRATIONS_MAX = 24;

/** SCOPE 0, the whole logical unit, is the only one there is. */
const SCOPE_MASK = 0xf0;

const types = new Set<number>(Object.values(PrType));

const isWriteExclusive = (type: number) =>
  type === PrType.WRITE_EXCLUSIVE ||
  type === PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY ||
  type === PrType.WRITE_EXCLUSIVE_ALL_REGISTRANTS;
const isAllRegistrants = (type: number) =>
  type === PrType.WRITE_EXCLUSIVE_ALL_REGISTRANTS || type === PrType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS;
const isForRegistrants = (type: number) => type >= PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY;

/** Whether a reservation of that type can have that one of `registrations` as its holder; -1: all registrants. */
export function isReservation(holder: number, type: number, registrations: number): boolean {
  if (!types.has(type) || registrations === 0) return false;
  return isAllRegistrants(type) ? holder === -1 : Number.isInteger(holder) && holder >= 0 && holder < registrations;
}

interface Registration {
  readonly port: InitiatorPort;
  key: bigint;
}

/** What is kept over a restart of the host (APTPL). */
export interface SavedReservations {
  readonly registrations: readonly { readonly port: InitiatorPort; readonly key: bigint }[];
  /** Of the holder among them; of an all registrants' reservation it means nothing. */
  readonly holder?: { readonly index: number; readonly type: number };
}

/** What a command of PERSISTENT RESERVE OUT does besides its answer. */
export interface PrEffects {
  /** Unit attentions for others. */
  readonly attentions: { readonly port: InitiatorPort; readonly asc: number }[];
  /** Whose tasks are aborted. */
  readonly aborts: InitiatorPort[];
}

/** Parameter list of PERSISTENT RESERVE OUT, SPC-4 6.16.3. */
interface PrParameters {
  readonly key: bigint;
  readonly serviceActionKey: bigint;
  readonly specifiesPorts: boolean;
  readonly persists: boolean;
}

/**
 * Reservations of one logical unit: persistent ones (SPC-4, 5.12), and the RESERVE and RELEASE of SPC-2, which exclude each
 * other. Changes nothing unless it succeeds; whoever calls it makes the change durable before it is answered, and takes it
 * back with `restore` where that fails.
 */
export class Reservations {
  #registrations: Registration[] = [];
  #type = 0;
  /** Of all registrants' reservations nobody in particular. */
  #holder: Registration | undefined;
  #generation = 0;
  #persists = false;
  /** Holder of a RESERVE(6). */
  #reserved: string | undefined;

  /** Activate persist through power loss, as the last REGISTER said. */
  get persists(): boolean {
    return this.#persists;
  }

  get registrations(): number {
    return this.#registrations.length;
  }

  /** Whether a command from that port must fail with RESERVATION CONFLICT. */
  conflicts(port: InitiatorPort, command: Command): boolean {
    const { verb, access } = command.spec;
    if (this.#reserved !== undefined && this.#reserved !== portKey(port)) {
      return !(verb === 'inquiry' || verb === 'requestSense' || verb === 'reportLuns' || verb === 'release');
    }
    if (verb === 'reserve' || verb === 'release') return this.#legacyConflicts(port);
    if (this.#type === 0 || access === 'free') return false;
    if (verb === 'startStop' && (command.cdb[4]! & 0xf1) === 1) return false;
    const registration = this.#find(port);
    if (registration !== undefined && (registration === this.#holder || isForRegistrants(this.#type))) return false;
    return access === 'write' || !isWriteExclusive(this.#type);
  }

  /** SPC-4 5.12.3 (CRH): with registrations, RESERVE is for who may write anyway, and does nothing then. */
  #legacyConflicts(port: InitiatorPort): boolean {
    if (this.#registrations.length === 0) return false;
    const registration = this.#find(port);
    if (registration === undefined) return true;
    return this.#type !== 0 && registration !== this.#holder && !isForRegistrants(this.#type);
  }

  /** RESERVE(6) of a port that has no conflict. */
  reserve(port: InitiatorPort): void {
    if (this.#registrations.length === 0) this.#reserved = portKey(port);
  }

  /** RELEASE(6). */
  release(port: InitiatorPort): void {
    if (this.#reserved === portKey(port)) this.#reserved = undefined;
  }

  /** A reset of the logical unit: what RESERVE(6) made is gone, the rest stays. */
  reset(): void {
    this.#reserved = undefined;
  }

  save(): SavedReservations {
    const index = this.#holder === undefined ? -1 : this.#registrations.indexOf(this.#holder);
    return {
      registrations: this.#registrations.map(({ port, key }) => ({ port, key })),
      ...(this.#type !== 0 && { holder: { index, type: this.#type } }),
    };
  }

  /** What `save` gave. */
  restore(saved: SavedReservations, persists: boolean): void {
    this.#registrations = saved.registrations.map(({ port, key }) => ({ port, key }));
    this.#type = saved.holder?.type ?? 0;
    this.#holder = saved.holder === undefined ? undefined : this.#registrations[saved.holder.index];
    this.#persists = persists;
  }

  // --- PERSISTENT RESERVE IN ---

  /** Its parameter data, SPC-4 6.15. */
  report(command: Command): Buffer {
    switch (command.cdb[1]! & 0x1f) {
      case PrIn.READ_KEYS:
        return this.#header(Buffer.concat(this.#registrations.map(({ key }) => u64(key))));
      case PrIn.READ_RESERVATION:
        return this.#header(this.#reservation());
      case PrIn.REPORT_CAPABILITIES:
        return this.#capabilities();
      default:
        return this.#header(Buffer.concat(this.#registrations.map((registration) => this.#fullStatus(registration))));
    }
  }

  #header(rest: Buffer): Buffer {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(this.#generation >>> 0, 0);
    header.writeUInt32BE(rest.length, 4);
    return Buffer.concat([header, rest]);
  }

  #reservation(): Buffer {
    if (this.#type === 0) return Buffer.alloc(0);
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64BE(this.#holder?.key ?? 0n, 0);
    bytes[13] = this.#type;
    return bytes;
  }

  #capabilities(): Buffer {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16BE(8, 0);
    bytes[2] = 0x10 | 0x04 | 0x01; // compatible reservation handling, all target ports, persistence through power loss
    bytes[3] = 0x80 | (this.#persists ? 1 : 0); // the type mask is valid
    bytes[4] = 0xea;
    bytes[5] = 0x01;
    return bytes;
  }

  #fullStatus(registration: Registration): Buffer {
    const id = encodeTransportId(registration.port);
    const bytes = Buffer.alloc(24);
    bytes.writeBigUInt64BE(registration.key, 0);
    const holds = this.#type !== 0 && (isAllRegistrants(this.#type) || registration === this.#holder);
    bytes[12] = holds ? 1 : 0;
    bytes[13] = holds ? this.#type : 0;
    bytes.writeUInt16BE(1, 18); // relative target port
    bytes.writeUInt32BE(id.length, 20);
    return Buffer.concat([bytes, id]);
  }

  // --- PERSISTENT RESERVE OUT ---

  /** Carries it out; `list` is all of its parameter list. @throws SenseError */
  change(port: InitiatorPort, command: Command, list: Uint8Array): Outcome & { readonly effects: PrEffects } {
    const effects: PrEffects = { attentions: [], aborts: [] };
    const action = command.cdb[1]! & 0x1f;
    const outcome = this.#run(port, action, command, list, effects);
    return { ...outcome, effects };
  }

  #run(port: InitiatorPort, action: number, command: Command, list: Uint8Array, effects: PrEffects): Outcome {
    if (this.#reserved !== undefined) return reservationConflict;
    if (action === PrOut.REGISTER_AND_MOVE) return this.#move(port, command, list, effects);
    const parameters = parse(list);
    const registering = action === PrOut.REGISTER || action === PrOut.REGISTER_AND_IGNORE_EXISTING_KEY;
    if (parameters.specifiesPorts) throw new SenseError(invalidParameter(20));
    if (registering) return this.#register(port, parameters, action === PrOut.REGISTER, effects);
    const registration = this.#find(port);
    if (registration === undefined || registration.key !== parameters.key) return reservationConflict;
    const type = command.cdb[2]!;
    switch (action) {
      case PrOut.RESERVE:
        return this.#reserve(registration, checkType(type));
      case PrOut.RELEASE:
        return this.#release(registration, type, effects);
      case PrOut.CLEAR:
        return this.#clear(registration, effects);
      default:
        return this.#preempt(registration, parameters, type, action === PrOut.PREEMPT_AND_ABORT, effects);
    }
  }

  #register(port: InitiatorPort, parameters: PrParameters, checksKey: boolean, effects: PrEffects): Outcome {
    const { serviceActionKey: key, persists } = parameters;
    const registration = this.#find(port);
    if (checksKey && parameters.key !== (registration?.key ?? 0n)) return reservationConflict;
    if (key === 0n) {
      if (registration !== undefined) this.#unregister(registration, effects);
    } else if (registration !== undefined) registration.key = key;
    else {
      if (this.#registrations.length >= REGISTRATIONS_MAX) throw new SenseError(noRoom);
      this.#registrations.push({ port, key });
    }
    this.#persists = persists;
    this.#generation++;
    return good;
  }

  /** SPC-4 5.12.11.3: the reservation goes with its holder, or with the last of all registrants. */
  #unregister(registration: Registration, effects: PrEffects): void {
    this.#registrations = this.#registrations.filter((other) => other !== registration);
    if (this.#type === 0) return;
    const type = this.#type;
    const released = isAllRegistrants(type) ? this.#registrations.length === 0 : registration === this.#holder;
    if (!released) return;
    this.#type = 0;
    this.#holder = undefined;
    if (isForRegistrants(type)) this.#attend(this.#registrations, Asc.RESERVATIONS_RELEASED, effects);
  }

  #reserve(registration: Registration, type: number): Outcome {
    if (this.#type === 0) {
      this.#type = type;
      this.#holder = isAllRegistrants(type) ? undefined : registration;
      return good;
    }
    return this.#holds(registration) && this.#type === type ? good : reservationConflict;
  }

  #holds(registration: Registration): boolean {
    return this.#type !== 0 && (isAllRegistrants(this.#type) || registration === this.#holder);
  }

  #release(registration: Registration, scopeAndType: number, effects: PrEffects): Outcome {
    if (!this.#holds(registration)) return good;
    if (scopeAndType !== this.#type) throw new SenseError(illegal(Asc.INVALID_RELEASE));
    const others = this.#registrations.filter((other) => other !== registration);
    if (isForRegistrants(this.#type)) this.#attend(others, Asc.RESERVATIONS_RELEASED, effects);
    this.#type = 0;
    this.#holder = undefined;
    return good;
  }

  #clear(registration: Registration, effects: PrEffects): Outcome {
    const others = this.#registrations.filter((other) => other !== registration);
    this.#attend(others, Asc.RESERVATIONS_PREEMPTED, effects);
    this.#registrations = [];
    this.#type = 0;
    this.#holder = undefined;
    this.#generation++;
    return good;
  }

  /** SPC-4 5.12.11.4. */
  #preempt(by: Registration, parameters: PrParameters, type: number, aborts: boolean, effects: PrEffects): Outcome {
    const key = parameters.serviceActionKey;
    const all = isAllRegistrants(this.#type);
    if (key === 0n && !all) throw new SenseError(invalidParameter(8));
    const takesOver = this.#type !== 0 && (all ? key === 0n : this.#holder!.key === key);
    const victims = this.#registrations.filter((registration) =>
      takesOver && all ? registration !== by : registration.key === key && registration !== by,
    );
    const known = this.#registrations.some((registration) => registration.key === key);
    if (!takesOver && !known) return reservationConflict;
    const oldType = this.#type;
    if (takesOver) checkType(type);
    this.#registrations = this.#registrations.filter((registration) => !victims.includes(registration));
    // Who preempts its own key keeps its registration only where it takes over the reservation.
    if (!takesOver && by.key === key) this.#registrations = this.#registrations.filter((other) => other !== by);
    this.#attend(victims, Asc.REGISTRATIONS_PREEMPTED, effects);
    if (takesOver) {
      this.#type = type;
      this.#holder = isAllRegistrants(type) ? undefined : by;
      const others = this.#registrations.filter((registration) => registration !== by);
      if (oldType !== type && isForRegistrants(oldType)) this.#attend(others, Asc.RESERVATIONS_RELEASED, effects);
    } else if (this.#type !== 0 && all && this.#registrations.length === 0) {
      this.#type = 0;
    }
    if (aborts) effects.aborts.push(...victims.map(({ port }) => port));
    this.#generation++;
    return good;
  }

  /** SPC-4 5.12.8: the holder gives its reservation to another port. */
  #move(port: InitiatorPort, command: Command, list: Uint8Array, effects: PrEffects): Outcome {
    if (list.length < 24) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
    const bytes = Buffer.from(list.buffer, list.byteOffset, list.byteLength);
    const [key, serviceActionKey] = [bytes.readBigUInt64BE(0), bytes.readBigUInt64BE(8)];
    if (24 + bytes.readUInt32BE(20) !== bytes.length) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
    const registration = this.#find(port);
    if (registration === undefined || registration.key !== key) return reservationConflict;
    if (this.#type === 0 || isAllRegistrants(this.#type) || registration !== this.#holder) return reservationConflict;
    if (command.cdb[2] !== this.#type) throw new SenseError(invalidCdb(2));
    if (serviceActionKey === 0n) throw new SenseError(invalidParameter(8));
    if (bytes.readUInt16BE(18) !== 1) throw new SenseError(invalidParameter(18)); // each target has one port
    const named = decodeTransportId(bytes.subarray(24));
    if (named === undefined) throw new SenseError(invalidParameter(24));
    const to: InitiatorPort = { ...named, target: port.target };
    if (portKey(to) === portKey(port)) throw new SenseError(invalidParameter(24));
    let receiver = this.#find(to);
    if (receiver === undefined) {
      if (this.#registrations.length >= REGISTRATIONS_MAX) throw new SenseError(noRoom);
      receiver = { port: to, key: serviceActionKey };
      this.#registrations.push(receiver);
    } else receiver.key = serviceActionKey;
    this.#holder = receiver;
    if ((bytes[17]! & 2) !== 0) this.#unregister(registration, effects);
    this.#persists = (bytes[17]! & 1) !== 0;
    this.#generation++;
    return good;
  }

  #attend(registrations: readonly Registration[], asc: number, effects: PrEffects): void {
    for (const { port } of registrations) effects.attentions.push({ port, asc });
  }

  #find(port: InitiatorPort): Registration | undefined {
    const key = portKey(port);
    return this.#registrations.find((registration) => portKey(registration.port) === key);
  }
}

const noRoom: Sense = illegal(Asc.INSUFFICIENT_REGISTRATION_RESOURCES);

function checkType(scopeAndType: number): number {
  if ((scopeAndType & SCOPE_MASK) !== 0 || !types.has(scopeAndType)) throw new SenseError(invalidCdb(2));
  return scopeAndType;
}

function parse(list: Uint8Array): PrParameters {
  if (list.length !== 24) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
  const bytes = Buffer.from(list.buffer, list.byteOffset, list.byteLength);
  return {
    key: bytes.readBigUInt64BE(0),
    serviceActionKey: bytes.readBigUInt64BE(8),
    specifiesPorts: (bytes[20]! & 8) !== 0,
    persists: (bytes[20]! & 1) !== 0,
  };
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
