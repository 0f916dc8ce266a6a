import type { SavedReservations } from '../../../host/scsi/reservations.ts';
import type { UnitStore } from '../../../host/scsi/unit.ts';
import type { VolumeInfo } from '../../../host/volumes/volume.ts';

/** UnitStore in memory, by the volumes' guids. */
export class MemoryStore implements UnitStore {
  readonly saved = new Map<bigint, SavedReservations>();
  syncs: 'standard' | 'always' | 'disabled' = 'standard';
  /** Thrown by `save`. */
  refuse: Error | undefined;

  async sync(): Promise<'standard' | 'always' | 'disabled'> {
    return this.syncs;
  }

  async load({ guid }: VolumeInfo): Promise<SavedReservations | undefined> {
    return this.saved.get(guid);
  }

  async save({ guid }: VolumeInfo, reservations: SavedReservations | undefined): Promise<void> {
    if (this.refuse !== undefined) throw this.refuse;
    if (reservations === undefined) this.saved.delete(guid);
    else this.saved.set(guid, reservations);
  }
}
