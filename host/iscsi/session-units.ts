import { tracer } from '../log.ts';
import { Asc } from '../scsi/constants.ts';
import type { Nexus } from '../scsi/nexus.ts';
import { type Sense, senseOf, unitAttention } from '../scsi/sense.ts';
import type { LogicalUnit } from '../scsi/unit.ts';
import type { UnitLease, Units } from '../scsi/units.ts';
import type { Established } from './login.ts';
import { parseLun } from './names.ts';

/** A logical unit of the session's target: opened when it is first used, and again after a failure. */
export interface SessionUnit {
  readonly lun: number;
  readonly volume: string;
  readonly nexus: Nexus;
  lease: UnitLease | undefined;
  opening: Promise<void> | undefined;
  /** Why it cannot be used: the last open's error. */
  failure: Sense | undefined;
  /** The volume went away. */
  gone: boolean;
}

/** Who is told what becomes of units. */
export interface SessionUnitsListener {
  /** The last of them went away. The reason is a sentence for the log. */
  allGone(reason: string): void;
  /** A unit has something to tell to the session's nexus, and not only its next command. */
  event(unit: SessionUnit, sense: Sense): void;
}

const trace = tracer('iscsi');

/** The logical units of a session's target, by LUN. */
export class SessionUnits {
  readonly #units: Units;
  readonly #established: Established;
  readonly #listener: SessionUnitsListener;
  readonly #byLun = new Map<number, SessionUnit>();
  /** The session ends: what is opened is closed again. */
  #releasing = false;

  constructor(units: Units, established: Established, listener: SessionUnitsListener) {
    this.#units = units;
    this.#established = established;
    this.#listener = listener;
    for (const [lun, { volume, readOnly }] of established.target?.luns ?? []) {
      const nexus = { port: this.#port(), readOnly };
      const nothing = { lease: undefined, opening: undefined, failure: undefined };
      this.#byLun.set(lun, { lun, volume, nexus, ...nothing, gone: false });
    }
  }

  #port(): Nexus['port'] {
    const { initiator, isid, target } = this.#established;
    return { initiator, isid, target: target!.name };
  }

  /** Of a command to a LUN that is not there. */
  get strangerNexus(): Nexus {
    return { port: this.#port(), readOnly: true };
  }

  /** In ascending order. */
  get luns(): number[] {
    return [...this.#byLun.keys()].sort((a, b) => a - b);
  }

  /** Volumes that are open. */
  get volumes(): string[] {
    return [...this.#byLun.values()].filter(({ lease }) => lease !== undefined).map(({ volume }) => volume);
  }

  /** By the LUN field of a PDU. */
  of(field: Buffer): SessionUnit | undefined {
    const lun = parseLun(field);
    return lun === undefined ? undefined : this.#byLun.get(lun);
  }

  /** Opens a unit, where that is not under way; its `lease` or its `failure` is there when it resolves. */
  open(unit: SessionUnit): Promise<void> {
    unit.opening ??= this.#open(unit);
    return unit.opening;
  }

  async #open(unit: SessionUnit): Promise<void> {
    try {
      const user = {
        nexus: unit.nexus,
        gone: (reason: string) => this.#gone(unit, reason),
        event: (sense: Sense) => this.#listener.event(unit, sense),
      };
      const lease = await this.#units.acquire(unit.volume, this.#established.target!.blockBytes, user);
      unit.failure = undefined;
      if (this.#releasing) await lease.release();
      else unit.lease = lease;
    } catch (error) {
      unit.failure = senseOf(error, false);
      trace?.({ volume: unit.volume, error: String(error) }, 'cannot be opened');
    } finally {
      unit.opening = undefined;
    }
  }

  /** What all initiators use together; undefined: nobody has used it since the host's start. */
  async logicalUnit({ lease, volume }: SessionUnit): Promise<LogicalUnit | undefined> {
    return lease?.unit ?? this.#units.known(volume);
  }

  /** LOGICAL UNIT RESET of all of them, whoever uses them. */
  async reset(): Promise<void> {
    await Promise.all([...this.#byLun.values()].map(async (unit) => (await this.logicalUnit(unit))?.reset()));
  }

  #gone(unit: SessionUnit, reason: string): void {
    if (unit.gone || this.#releasing) return;
    unit.gone = true;
    trace?.({ volume: unit.volume, reason }, 'volume gone');
    const left = [...this.#byLun.values()].filter(({ gone }) => !gone);
    for (const other of left) other.lease?.unit.attend(other.nexus.port, Asc.REPORTED_LUNS_CHANGED);
    if (left.length === 0) this.#listener.allGone(`${unit.volume}: ${reason}`);
    else this.#listener.event(left[0]!, unitAttention(Asc.REPORTED_LUNS_CHANGED));
  }

  /** Closes all volumes; `flush`: after what was written is durable. */
  async release(flush: boolean): Promise<void> {
    this.#releasing = true;
    for (const unit of this.#byLun.values()) {
      await unit.opening;
      const { lease } = unit;
      unit.lease = undefined;
      if (lease === undefined) continue;
      try {
        if (flush && !unit.gone) await lease.unit.handle.flush();
      } finally {
        await lease.release();
      }
    }
  }
}
