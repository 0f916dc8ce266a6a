import type { openDevice } from '../devices/open.ts';
import type { Logger } from '../log.ts';
import type { VolumeProvider } from '../volumes/volume.ts';
import type { IoctlCore } from './dev-zfs.ts';

/** What the host needs of OpenZFS's core: `/dev/zfs`, the volumes, and to be told when it is lost. */
export interface Core extends IoctlCore {
  readonly volumes: VolumeProvider;
  /** Those of CoreOptions.tunables that it did not take. */
  readonly refusedTunables: readonly TunableRefusal[];
  /** Resolves once when a VERIFY failure, a panic or a trap has ended the core; never rejects, else never settles. */
  readonly lost: Promise<CorePanic>;
  /** Of one in this process: how long everybody else waited at most, and the name of the fiber that ran last then. */
  readonly longestTurn?: { readonly ms: number; readonly fiber: string };
  /** Of one in this process: its heap in bytes, and how many fibers it has. */
  usage?(): { readonly heapBytes: number; readonly heapUsedBytes: number; readonly fibers: number };
  /** Of one in another process: resolves when what it told before, of volumes for one, was heard here. */
  settle?(): Promise<void>;
  /** Of one in another process: the clients that it has are answered, flushed and closed. */
  dismissClients?(): Promise<void>;
  /** Of one in another process. */
  readonly pid?: number;
  /**
   * Ends a core whose pools are exported and whose sessions and volumes are closed; gives its devices back.
   * Pools that are still imported stay as a crash would leave them. A second close does nothing.
   */
  close(): Promise<void>;
}

export interface CoreOptions {
  /** Size of the WebAssembly memory in bytes, a multiple of 64 KiB up to 4 GiB; it never grows. */
  readonly memoryBytes: number;
  /** How the disks of pools are opened. Default: host/devices/open.ts. */
  readonly openDevice?: typeof openDevice;
  /** Set before anything else starts, as options of a module at its load; also those that are read only later. */
  readonly tunables?: readonly TunableSetting[];
  /** Where the configurations of imported pools are kept for zdb, as in a kernel's /etc/zfs/zpool.cache. Default: nowhere. */
  readonly cacheFile?: string;
}

export interface TunableSetting {
  readonly name: string;
  readonly value: string;
}

export interface TunableRefusal extends TunableSetting {
  /** ENOENT: there is none of that name. */
  readonly errno: number;
}

/**
 * Starts a core without pools. It opens the devices of a pool through host/devices when the pool is imported or created,
 * `exclusive`, so that no second host can.
 */
export type LoadCore = (options: CoreOptions) => Promise<Core>;

/** The end of a core, as far as it is known. */
export interface CorePanic {
  /** `VERIFY3U(a, ==, b) failed (1 == 2)`. */
  readonly message: string;
  /** Upstream's source file and line. */
  readonly file?: string;
  readonly line?: number;
  /** The pool the fiber worked on. */
  readonly pool?: string;
  /** Name of the fiber. */
  readonly fiber?: string;
  /** Functions of the module, innermost first. */
  readonly stack?: readonly string[];
}

/** Says of a core that was closed for how long it held its thread at most, and by what. */
export function logClosed({ longestTurn }: Core, log: Logger): void {
  if (longestTurn === undefined) return;
  const { ms, fiber } = longestTurn;
  log.info({ longestTurnMs: Math.round(ms * 10) / 10, fiber }, 'core closed');
}
