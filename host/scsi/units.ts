import { Errno, ErrnoError } from '../errno.ts';
import type { VolumeInfo, VolumeProvider } from '../volumes/volume.ts';
import { Asc } from './constants.ts';
import type { TransferLimits } from './geometry.ts';
import { serialOf } from './inquiry.ts';
import type { Nexus } from './nexus.ts';
import { type Sense, unitAttention } from './sense.ts';
import { LogicalUnit, type UnitStore } from './unit.ts';

export interface UnitsOptions {
  readonly provider: VolumeProvider;
  readonly store: UnitStore;
  readonly limits: TransferLimits;
  /** Four characters of INQUIRY. */
  readonly revision: string;
}

/** A unit that somebody uses. */
interface Used {
  readonly opening: Promise<LogicalUnit>;
  /** Who is told when the volume goes away. */
  readonly users: Set<UnitUser>;
  gone: string | undefined;
}

/** Who holds a unit. */
export interface UnitUser {
  readonly nexus: Nexus;
  /** The volume goes away: commands fail from now on. The reason is a sentence for the log. */
  gone(reason: string): void;
  /** The unit has something to tell, not only to the nexus' next command. */
  event(sense: Sense): void;
}

/** A hold on a unit. */
export interface UnitLease {
  readonly unit: LogicalUnit;
  /** The volume is closed with its last lease. */
  release(): Promise<void>;
}

/**
 * The logical units of all volumes, each with one open volume while somebody uses it. What a unit knows beyond its volume
 * (who is registered, what MODE SELECT said) stays while nobody does. A unit goes by its volume's guids, for names change.
 */
export class Units {
  readonly #options: UnitsOptions;
  readonly #used = new Map<string, Used>();
  /** As many as there are volumes with registrations or changed modes. */
  readonly #remembered = new Map<string, LogicalUnit>();

  constructor(options: UnitsOptions) {
    this.#options = options;
  }

  /** The unit of a volume, attached to the user's nexus. Rejects with ErrnoError as VolumeProvider.open does. */
  async acquire(volume: string, blockBytes: number, user: UnitUser): Promise<UnitLease> {
    const info = this.#options.provider.find(volume);
    if (info === undefined) throw new ErrnoError(Errno.ENOENT, volume);
    const serial = serialOf(info);
    const used = this.#used.get(serial) ?? this.#use(serial, info, blockBytes);
    used.users.add(user);
    let unit: LogicalUnit;
    try {
      unit = await used.opening;
    } catch (error) {
      used.users.delete(user);
      throw error;
    }
    unit.attach(user.nexus);
    if (used.gone !== undefined) user.gone(used.gone);
    return { unit, release: () => this.#release(serial, used, unit, user) };
  }

  /** The unit of a volume, where somebody uses it, or it remembers something. */
  async known(volume: string): Promise<LogicalUnit | undefined> {
    const info = this.#options.provider.find(volume);
    if (info === undefined) return undefined;
    const serial = serialOf(info);
    return (await this.#used.get(serial)?.opening.catch(() => undefined)) ?? this.#remembered.get(serial);
  }

  #use(serial: string, info: VolumeInfo, blockBytes: number): Used {
    const used: Used = { opening: this.#open(serial, info, blockBytes), users: new Set(), gone: undefined };
    this.#used.set(serial, used);
    const forget = (reason: string) => {
      this.#forget(serial, used);
      used.gone = reason;
      for (const user of used.users) user.gone(reason);
    };
    used.opening.then(
      ({ handle }) => {
        handle.onResize(() => {
          for (const user of used.users) user.event(unitAttention(Asc.CAPACITY_CHANGED));
        });
        handle.onGone(forget);
      },
      () => this.#forget(serial, used),
    );
    return used;
  }

  async #release(serial: string, used: Used, unit: LogicalUnit, user: UnitUser): Promise<void> {
    unit.detach(user.nexus);
    if (!used.users.delete(user)) throw new Error('a unit was released twice');
    if (used.users.size > 0) return;
    this.#forget(serial, used);
    if (unit.remembers && used.gone === undefined) this.#remembered.set(serial, unit);
    await unit.handle.close();
  }

  #forget(serial: string, used: Used): void {
    if (this.#used.get(serial) === used) this.#used.delete(serial);
  }

  async #open(serial: string, { name, readOnly }: VolumeInfo, blockBytes: number): Promise<LogicalUnit> {
    const { provider, store, limits, revision } = this.#options;
    const handle = await provider.open(name, { readOnly });
    try {
      const unit = await LogicalUnit.create({ handle, blockBytes, limits, store, revision });
      const former = this.#remembered.get(serial);
      this.#remembered.delete(serial);
      if (former !== undefined) unit.inherit(former);
      return unit;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}
