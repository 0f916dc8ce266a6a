import type { RemoteDeviceConfig } from '../config/config.ts';
import type { CorePanic, TunableRefusal, TunableSetting } from '../core/api.ts';
import type { NbdLoss } from '../devices/nbd/disk.ts';
import type { SessionHandover } from '../iscsi/handover.ts';
import type { EngineSample } from '../metrics/sample.ts';
import type { Handover } from '../nbd/handover.ts';
import type { VolumeInfo } from '../volumes/volume.ts';

/**
 * What crosses between the supervisor and an engine's process. Ioctls and their streams do not: they go over the
 * engine's own ioctl socket. Everything here is plain data that survives a structured clone.
 */

/** How an engine is started; the first call. */
export interface EngineOptions {
  /** Where its ioctl socket is to be. */
  readonly socket: string;
  readonly memoryBytes: number;
  /** Of the pools that it has (CoreOptions). */
  readonly cacheFile: string;
  readonly tunables: readonly TunableSetting[];
}

export interface EngineReady {
  readonly refusedTunables: readonly TunableRefusal[];
  /** Bounds of its buffer pool: BufferPool's. */
  readonly maxBytes: number;
  readonly limitBytes: number;
}

/** The answer to `disk-wanted`: the engine may connect, or why it may not. */
export type DiskGrant =
  | {
      readonly device: RemoteDeviceConfig;
      /** Of the export; one that is smaller is not to be taken. */
      readonly sizeBytes: number;
    }
  | { readonly errno: number; readonly message: string };

interface Call<Argument, Value> {
  readonly argument: Argument;
  readonly value: Value;
}

export interface Operations {
  readonly start: Call<EngineOptions, EngineReady>;
  /** For a client. Those go by numbers that the supervisor gives them. */
  readonly openVolume: Call<{ readonly client: number; readonly name: string; readonly readOnly: boolean }, VolumeInfo>;
  readonly revealVolume: Call<string, VolumeInfo>;
  /** Of a client that is not adopted. */
  readonly closeVolume: Call<number, void>;
  /** Of a client with an open volume. With a socket, the client's; without, it comes over the relay. Answered when the engine has it. */
  readonly adoptNbd: Call<{ readonly client: number; readonly handover: Handover }, void>;
  /** An iSCSI session; with its socket. */
  readonly adoptSession: Call<{ readonly client: number; readonly handover: SessionHandover }, void>;
  /** Answered when an adopted client is gone, and its volumes closed. */
  readonly clientGone: Call<number, void>;
  /** Of an adopted one: see AdoptedClient. */
  readonly endClient: Call<{ readonly client: number; readonly how: 'dismiss' | 'cut' }, void>;
  /** Answered when all events of before are on their way. */
  readonly settle: Call<void, void>;
  /** Clients are answered, flushed and closed. */
  readonly dismissClients: Call<void, void>;
  readonly kstatPaths: Call<void, readonly string[]>;
  readonly kstat: Call<string, Uint8Array>;
  readonly clearKstat: Call<string, void>;
  readonly tunables: Call<void, Uint8Array>;
  readonly setTunable: Call<{ readonly name: string; readonly value: string }, void>;
  /** What metrics tell of the engine. */
  readonly sample: Call<void, EngineSample>;
  /** What one sees of it who looks at it live. */
  readonly look: Call<void, EngineSample>;
  /** A remote disk that it wanted is the engine's, or not. */
  readonly lendDisk: Call<{ readonly path: string; readonly grant: DiskGrant }, void>;
  /** Another wants it: whether it had no use, and was given up. Then `disk-returned` was told before. */
  readonly giveUpDisk: Call<string, boolean>;
  /** Looks at a remote disk that the engine has: what is there, at most so many bytes. */
  readonly readDisk: Call<{ readonly path: string; readonly offset: number; readonly length: number }, Uint8Array>;
  /** Sessions end; then the core, and the process. */
  readonly finish: Call<void, void>;
}

export type EngineEvent =
  /** A volume is new or has changed. */
  | { readonly kind: 'volume'; readonly info: VolumeInfo }
  | { readonly kind: 'volume-gone'; readonly name: string }
  /** The core opens a remote disk that the engine has no connection to; `lendDisk` answers. */
  | { readonly kind: 'disk-wanted'; readonly path: string }
  /** The engine has no connection to it any more; where it was lost, how. */
  | { readonly kind: 'disk-returned'; readonly path: string; readonly loss: NbdLoss | undefined }
  | { readonly kind: 'lost'; readonly panic: CorePanic };
