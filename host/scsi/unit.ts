import type { IoBuffer, VolumeHandle, VolumeInfo } from '../volumes/volume.ts';
import { runBlock } from './block.ts';
import { type Command, decodeCdb } from './cdb.ts';
import { changesMedium } from './commands.ts';
import { Asc, Status } from './constants.ts';
import { type Geometry, geometryOf, type TransferLimits } from './geometry.ts';
import { inquiry, serialOf } from './inquiry.ts';
import { type ModeSettings, type ModeState, modeSelect, modeSense } from './modes.ts';
import { type InitiatorPort, type Nexus, portKey } from './nexus.ts';
import { reportOpcodes, reportTaskFunctions } from './opcodes.ts';
import { Reservations, type SavedReservations } from './reservations.ts';
import {
  check,
  encodeSense,
  good,
  illegal,
  invalidCdb,
  noSense,
  type Outcome,
  reservationConflict,
  type Sense,
  SenseError,
  senseOf,
  unitAttention,
} from './sense.ts';
import { TaskSet } from './tasks.ts';
import { type Sizes, sizesOf, validate } from './validate.ts';

/** What a logical unit keeps with its volume, and asks of it. */
export interface UnitStore {
  /** `sync` of the dataset: whether an acknowledged write is durable. */
  sync(volume: VolumeInfo): Promise<'standard' | 'always' | 'disabled'>;
  /** What `save` was given last; undefined: nothing. */
  load(volume: VolumeInfo): Promise<SavedReservations | undefined>;
  /** Durable when it resolves. Undefined: nothing is kept any more. */
  save(volume: VolumeInfo, reservations: SavedReservations | undefined): Promise<void>;
}

/** A command that may run. */
export interface Plan extends Sizes {
  readonly command: Command;
  /** It changes the medium: what its failures mean depends on it. */
  readonly writes: boolean;
}

/** How a command ended, with what it has to say. */
export interface Result extends Outcome {
  /** Parameter data, already no longer than the initiator takes. */
  readonly data?: Uint8Array;
}

/** Unit attentions of one nexus that are kept; there are not as many kinds. */
const ATTENTIONS_MAX = 16;

interface Attached {
  readonly nexus: Nexus;
  attentions: number[];
}

export function isPlan(planned: Plan | Result): planned is Plan {
  return 'command' in planned;
}

/**
 * A logical unit: one volume, as all initiators together use it. `plan` says at once what is wrong with a command, or what
 * it takes; `run` carries it out. Both take a nexus that is attached.
 */
export class LogicalUnit {
  readonly tasks = new TaskSet();
  readonly blockBytes: number;
  readonly #handle: VolumeHandle;
  readonly #limits: TransferLimits;
  readonly #store: UnitStore;
  readonly #revision: string;
  readonly #attached = new Map<string, Attached>();
  readonly #reservations = new Reservations();
  /** What MODE SELECT said; undefined: nothing yet. */
  #modes: ModeSettings | undefined;
  #default: ModeSettings = { writeCache: true, descriptorSense: false, writeProtect: false };
  #geometry: Geometry;
  /** PERSISTENT RESERVE OUT runs one at a time, to the end of its save. */
  #changing: Promise<unknown> = Promise.resolve();
  #saved = false;

  private constructor(
    handle: VolumeHandle,
    blockBytes: number,
    limits: TransferLimits,
    store: UnitStore,
    revision: string,
  ) {
    this.#handle = handle;
    this.blockBytes = blockBytes;
    this.#limits = limits;
    this.#store = store;
    this.#revision = revision;
    this.#geometry = geometryOf(handle.info, blockBytes);
    handle.onResize(() => {
      this.#geometry = geometryOf(handle.info, blockBytes);
      this.#attendAll(Asc.CAPACITY_CHANGED);
    });
  }

  /** Of an open volume, with what was kept of its reservations. Rejects with ErrnoError when that cannot be read. */
  static async create(options: {
    readonly handle: VolumeHandle;
    readonly blockBytes: number;
    readonly limits: TransferLimits;
    readonly store: UnitStore;
    /** Four characters. */
    readonly revision: string;
  }): Promise<LogicalUnit> {
    const { handle, blockBytes, limits, store, revision } = options;
    const unit = new LogicalUnit(handle, blockBytes, limits, store, revision);
    const saved = await store.load(handle.info);
    if (saved !== undefined) unit.#reservations.restore(saved, true);
    unit.#saved = saved !== undefined;
    await unit.#readDefaults();
    return unit;
  }

  get info(): VolumeInfo {
    return this.#handle.info;
  }

  get handle(): VolumeHandle {
    return this.#handle;
  }

  get geometry(): Geometry {
    return this.#geometry;
  }

  /** Stays the same whatever becomes of the volume's name. */
  get serial(): string {
    return serialOf(this.info);
  }

  /** Whether it knows something that is lost with it: it has to stay while nobody is attached. */
  get remembers(): boolean {
    return this.#reservations.registrations > 0 || this.#modes !== undefined;
  }

  /** A session begins. Its first command is told that it is a new one. */
  attach(nexus: Nexus): void {
    this.#attached.set(portKey(nexus.port), { nexus, attentions: [Asc.POWER_ON_OR_RESET] });
  }

  /** The session is over: its RESERVE is, its registration stays. */
  detach(nexus: Nexus): void {
    const key = portKey(nexus.port);
    if (this.#attached.get(key)?.nexus !== nexus) return; // the same initiator is back already
    this.#attached.delete(key);
    this.#reservations.release(nexus.port);
  }

  /** As it is remembered while nobody is attached: goes on with another handle of the same volume. */
  inherit(former: LogicalUnit): void {
    this.#reservations.restore(former.#reservations.save(), former.#reservations.persists);
    this.#modes = former.#modes;
    this.#saved = former.#saved;
  }

  /** The next command of that nexus is told so. */
  attend(port: InitiatorPort, asc: number): void {
    const attached = this.#attached.get(portKey(port));
    if (attached === undefined || attached.attentions.includes(asc)) return;
    if (attached.attentions.length < ATTENTIONS_MAX) attached.attentions.push(asc);
  }

  #attendAll(asc: number, except?: Nexus): void {
    for (const { nexus } of this.#attached.values()) if (nexus !== except) this.attend(nexus.port, asc);
  }

  /** LOGICAL UNIT RESET: all tasks are over when it resolves. */
  async reset(): Promise<void> {
    await this.tasks.abort(() => true);
    this.#reservations.reset();
    this.#modes = undefined;
    this.#attendAll(Asc.BUS_DEVICE_RESET);
  }

  /** CLEAR TASK SET: the tasks of everybody; the others are told. */
  async clearTasks(by: Nexus): Promise<void> {
    const others = new Set<Nexus>();
    await this.tasks.abort(({ nexus }) => {
      if (nexus !== by) others.add(nexus);
      return true;
    });
    for (const nexus of others) this.attend(nexus.port, Asc.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
  }

  /** Sense data as the unit's control mode page wants them. */
  sense(sense: Sense): Buffer {
    return encodeSense(sense, this.#current().descriptorSense);
  }

  #current(): ModeSettings {
    return this.#modes ?? this.#default;
  }

  #readOnly(nexus: Nexus): boolean {
    return nexus.readOnly || this.info.readOnly || this.#current().writeProtect;
  }

  /** What becomes of a command: its end, or what it takes to run it. */
  plan(nexus: Nexus, cdb: Uint8Array): Plan | Result {
    const command = decodeCdb(cdb);
    const verb = 'spec' in command ? command.spec.verb : undefined;
    // SAM-5 5.14.1: these three are answered whatever there is to tell.
    if (verb !== 'inquiry' && verb !== 'requestSense' && verb !== 'reportLuns') {
      const attention = this.#attached.get(portKey(nexus.port))?.attentions.shift();
      if (attention !== undefined) return check(unitAttention(attention));
    }
    if (!('spec' in command)) return check(command);
    if (this.#reservations.conflicts(nexus.port, command)) return reservationConflict;
    const to = { geometry: this.#geometry, limits: this.#limits, readOnly: this.#readOnly(nexus) };
    const wrong = validate(command, to);
    if (wrong !== undefined) return check(wrong);
    return { command, writes: changesMedium(command.spec.verb), ...sizesOf(command, this.#geometry) };
  }

  /** Carries out a planned command: `buffer` has as many bytes as planned. Never rejects. */
  async run(nexus: Nexus, plan: Plan, buffer: IoBuffer | undefined, signal: AbortSignal): Promise<Result> {
    const { command } = plan;
    try {
      // Most commands by far.
      if (command.spec.blocks !== undefined || command.spec.verb === 'unmap' || command.spec.verb === 'lbaStatus') {
        const data = await runBlock({
          handle: this.#handle,
          geometry: this.#geometry,
          limits: this.#limits,
          command,
          buffer,
          writeThrough: !this.#current().writeCache,
          signal,
        });
        return data === undefined ? good : withData(command, data);
      }
      return await this.#primary(nexus, command, buffer?.bytes ?? new Uint8Array(0));
    } catch (error) {
      return check(senseOf(error, plan.writes));
    }
  }

  async #primary(nexus: Nexus, command: Command, list: Uint8Array): Promise<Result> {
    switch (command.spec.verb) {
      case 'testUnitReady':
        return good;
      case 'inquiry':
        return withData(command, inquiry(command, this.#identity(nexus)));
      case 'requestSense':
        return withData(command, this.#requestSense(nexus, command));
      case 'modeSense':
        await this.#readDefaults();
        return withData(command, modeSense(command, this.#modeState(nexus)));
      case 'modeSelect':
        await this.#readDefaults();
        this.#modes = modeSelect(command, list, this.#modeState(nexus));
        this.#attendAll(Asc.MODE_PARAMETERS_CHANGED, nexus);
        return good;
      case 'startStop':
        // It is not stopped, for others use it; what was written is made durable (SBC-3, 5.25: NO_FLUSH).
        if ((command.cdb[4]! & 0xf5) === 0) await this.#handle.flush();
        return good;
      case 'reserve':
        this.#reservations.reserve(nexus.port);
        return good;
      case 'release':
        this.#reservations.release(nexus.port);
        return good;
      case 'readCapacity10':
        return { ...good, data: this.#capacity10() };
      case 'readCapacity16':
        return withData(command, this.#capacity16());
      case 'reportOpcodes':
        return withData(command, reportOpcodes(command));
      case 'reportTaskFunctions':
        if (command.allocation < 4) throw new SenseError(invalidCdb(6));
        return withData(command, reportTaskFunctions(command));
      case 'persistentIn':
        return withData(command, this.#reservations.report(command));
      case 'persistentOut':
        return this.#persistentOut(nexus, command, Uint8Array.from(list));
      default:
        throw new Error(`${command.spec.verb} has no meaning for a unit`);
    }
  }

  #identity({ port }: Nexus) {
    return {
      info: this.info,
      geometry: this.#geometry,
      limits: this.#limits,
      target: port.target,
      revision: this.#revision,
    };
  }

  #modeState(nexus: Nexus): ModeState {
    return {
      current: this.#current(),
      default: this.#default,
      readOnly: this.#readOnly(nexus),
      geometry: this.#geometry,
    };
  }

  /** WCE is what `sync` of the dataset says, unless an initiator has chosen. */
  async #readDefaults(): Promise<void> {
    const writeCache = (await this.#store.sync(this.info)) !== 'always';
    this.#default = { ...this.#default, writeCache };
  }

  /** SPC-4 6.39: what a nexus is to be told is told, and over. */
  #requestSense(nexus: Nexus, command: Command): Buffer {
    const attention = this.#attached.get(portKey(nexus.port))?.attentions.shift();
    return encodeSense(attention === undefined ? noSense : unitAttention(attention), (command.cdb[1]! & 1) !== 0);
  }

  #capacity10(): Buffer {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32BE(Math.min(this.#geometry.blocks - 1, 0xffff_ffff), 0);
    bytes.writeUInt32BE(this.blockBytes, 4);
    return bytes;
  }

  /** SBC-3 5.16.2. */
  #capacity16(): Buffer {
    const bytes = Buffer.alloc(32);
    bytes.writeBigUInt64BE(BigInt(this.#geometry.blocks - 1), 0);
    bytes.writeUInt32BE(this.blockBytes, 8);
    bytes[13] = this.#geometry.physicalExponent;
    bytes[14] = 0xc0; // LBPME, LBPRZ
    return bytes;
  }

  /** One at a time; what is to be kept is durable before it counts. */
  #persistentOut(nexus: Nexus, command: Command, list: Uint8Array): Promise<Result> {
    const run = async (): Promise<Result> => {
      const reservations = this.#reservations;
      const [before, persisted] = [reservations.save(), reservations.persists];
      const { effects, ...outcome } = reservations.change(nexus.port, command, list);
      if (outcome.status !== Status.GOOD) return outcome;
      try {
        await this.#keep();
      } catch {
        reservations.restore(before, persisted);
        return check(illegal(Asc.INSUFFICIENT_REGISTRATION_RESOURCES));
      }
      for (const { port, asc } of effects.attentions) if (portKey(port) !== portKey(nexus.port)) this.attend(port, asc);
      const aborted = new Set(effects.aborts.map(portKey));
      if (aborted.size > 0) await this.tasks.abort((task) => aborted.has(portKey(task.nexus.port)));
      return outcome;
    };
    const result = this.#changing.then(run, run);
    this.#changing = result.catch(() => undefined);
    return result;
  }

  async #keep(): Promise<void> {
    const { persists, registrations } = this.#reservations;
    const keeps = persists && registrations > 0;
    if (!keeps && !this.#saved) return;
    await this.#store.save(this.info, keeps ? this.#reservations.save() : undefined);
    this.#saved = keeps;
  }
}

/** As much of the data as the initiator takes. */
function withData(command: Command, data: Buffer): Result {
  return { ...good, data: data.length > command.allocation ? data.subarray(0, command.allocation) : data };
}
