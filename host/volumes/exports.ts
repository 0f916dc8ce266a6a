import { Errno, ErrnoError } from '../errno.ts';
import { matchesGlob } from '../glob.ts';
import type { VolumeInfo, VolumeProvider } from './volume.ts';

/** Which volumes one listener shows, and how. */
export interface ExportPolicy {
  /** Patterns of dataset names, `*` standing for anything: `tank/*`, `tank/vm0`, `*@*`. Default: all. */
  readonly exports?: readonly string[] | undefined;
  /** Nothing can be changed through this listener. */
  readonly readOnly?: boolean | undefined;
  /** What a client gets that names no export. Default: the only volume, where there is exactly one. */
  readonly defaultExport?: string | undefined;
}

/** The provider's volumes as one listener's clients see them. */
export class Exports {
  readonly provider: VolumeProvider;
  readonly #visible: readonly string[] | undefined;
  readonly #readOnly: boolean;
  readonly #default: string | undefined;

  constructor(provider: VolumeProvider, policy: ExportPolicy) {
    this.provider = provider;
    this.#readOnly = policy.readOnly ?? false;
    this.#default = policy.defaultExport;
    this.#visible = policy.exports;
  }

  /** Sorted by name; snapshots follow their volume's name. */
  list(): VolumeInfo[] {
    return this.provider.list().filter((info) => this.#shows(info.name));
  }

  /**
   * The volume an export name means. The empty name is the configured default, else the only volume (snapshots do not
   * count): what `nbd://host` gets from nbdkit and qemu-nbd, which serve one disk under that name. A snapshot need not be
   * listed to be meant. Rejects with ErrnoError, whose sentence is for the client, where there is none: also of a volume
   * that is there, but cannot be opened.
   */
  async find(name: string): Promise<VolumeInfo> {
    const meant = name === '' ? this.#defaultName() : name;
    if (meant === undefined) throw new ErrnoError(Errno.ENOENT, 'there is no default export: name one of the list');
    // What this listener does not show is not there, whether or not it is.
    if (!this.#shows(meant)) throw noExport(meant);
    const known = this.provider.find(meant);
    if (known === undefined && this.provider.awaits?.(meant) === true)
      throw new ErrnoError(Errno.ESHUTDOWN, `the pool of ${meant.slice(0, 256)} is on its way: try again`);
    const info = known ?? (await this.provider.reveal?.(meant));
    if (info === undefined) throw noExport(meant);
    return info;
  }

  /** Whether clients of this listener may change it. */
  readOnly(info: VolumeInfo): boolean {
    return this.#readOnly || info.readOnly;
  }

  #shows(name: string): boolean {
    return this.#visible === undefined || this.#visible.some((pattern) => matchesGlob(name, pattern));
  }

  #defaultName(): string | undefined {
    if (this.#default !== undefined) return this.#default;
    const volumes = this.list().filter((info) => !info.name.includes('@'));
    return volumes.length === 1 ? volumes[0]!.name : undefined;
  }
}

function noExport(name: string): ErrnoError {
  return new ErrnoError(Errno.ENOENT, `no export named ${name.slice(0, 256)}`);
}
