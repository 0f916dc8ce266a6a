import type { NbdAddress } from '../devices/nbd/address.ts';
import type { SlowLimit } from '../devices/nbd/slowness.ts';
import type { TargetConfig, TargetPolicy } from '../iscsi/targets.ts';
import type { LogFormat } from '../log.ts';
import type { NbdListenerOptions } from '../nbd/listener-options.ts';
import type { TlsClientConfig } from '../net/tls.ts';
import type { Problem } from './problem.ts';
import type { VdevSpec } from './vdevs.ts';

/** A validated configuration: every path absolute, every size in bytes. */
export interface Config {
  /** The file it came from, as the user named it; undefined for a configuration given as an object. */
  readonly file: string | undefined;
  /** The ioctl socket. */
  readonly socket: string;
  /** Size in bytes of the WebAssembly memory of each pool's engine, unless the pool says otherwise. */
  readonly memoryBytes: number;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
  /** Whether OpenZFS's event daemon runs beside the host. */
  readonly zed: boolean;
  /** Module parameters of OpenZFS, set before the pools are opened. Only the core knows whether they are right. */
  readonly tunables: readonly TunableConfig[];
  /** Disks that are not local files. */
  readonly devices: readonly RemoteDeviceConfig[];
  readonly pools: readonly PoolConfig[];
  readonly nbd: readonly NbdListenerConfig[];
  readonly iscsi: readonly IscsiListenerConfig[];
  /** iSCSI targets with logical units of one's choice. */
  readonly targets: readonly TargetConfig[];
  /** Where the page, metrics and health are asked for; undefined: nowhere. */
  readonly http: HttpConfig | undefined;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface TunableConfig {
  readonly name: string;
  readonly value: string;
  /** Where it stands, for messages. */
  readonly place: Pick<Problem, 'line' | 'column' | 'key'>;
}

export interface RemoteDeviceConfig {
  /** `m2-disk`, without the folder that programs see it in. */
  readonly name: string;
  readonly address: NbdAddress;
  readonly tls: TlsClientConfig | undefined;
  readonly ioTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly slow: SlowLimit | undefined;
}

export interface PoolConfig {
  readonly name: string;
  readonly vdevs: VdevSpec;
  /** Present: the pool may be created where its devices are missing or blank. */
  readonly create: { readonly sizeBytes: number | undefined } | undefined;
  /** Size in bytes of its engine's memory. */
  readonly memoryBytes: number;
  /** As `zpool create -o` takes them. */
  readonly properties: ReadonlyMap<string, string>;
  readonly volumes: readonly VolumeConfig[];
}

export interface VolumeConfig {
  /** Dataset name with its pool: `tank/vm0`. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Created without a reservation, as `zfs create -s -V`. */
  readonly sparse: boolean;
  /** As `zfs create -o` takes them; `volblocksize` among them. */
  readonly properties: ReadonlyMap<string, string>;
}

export type NbdListenerConfig = (
  | { readonly kind: 'unix'; readonly path: string }
  /** `127.0.0.1:10809`, `[::1]:10809`; port 0 takes a free one. */
  | { readonly kind: 'tcp'; readonly address: string; readonly allowRemote: boolean }
) & {
  /** Present where the file says more than an address. */
  readonly policy?: NbdPolicy;
};

/** What a listener shows, and to whom; paths are absolute. */
export type NbdPolicy = Pick<NbdListenerOptions, 'exports' | 'defaultExport' | 'readOnly' | 'idleMs' | 'tls'>;

export interface IscsiListenerConfig {
  /** `127.0.0.1:3260`, `[::1]:3260`; port 0 takes a free one. */
  readonly address: string;
  readonly allowRemote: boolean;
  /** Paths of the files with secrets. */
  readonly chap: { readonly users: string; readonly mutual: string | undefined } | undefined;
  /** Of the names of the volumes' own targets. */
  readonly prefix: string;
  /** Logical block, bytes. */
  readonly blockBytes: number;
  readonly policy: TargetPolicy;
}

export type HttpConfig = (
  | { readonly kind: 'unix'; readonly path: string }
  /** `127.0.0.1:9134`, `[::1]:9134`; port 0 takes a free one. */
  | { readonly kind: 'tcp'; readonly address: string; readonly allowRemote: boolean }
) & {
  /** Names of this host in requests, beside its own and localhost; in lower case. */
  readonly hosts: readonly string[];
  /** Path of the file with the secret of who may change something. */
  readonly token: string | undefined;
};

export const MEMORY_BYTES_DEFAULT = 1024 ** 3;
/** Below this the ARC has no room to work in (measured by the core's own tests). */
export const MEMORY_BYTES_MIN = 256 * 1024 ** 2;
/** A wasm32 address space. */
export const MEMORY_BYTES_MAX = 4 * 1024 ** 3;
/** Longer than a disk of a healthy server is busy with a flush, shorter than what clients of a volume bear. */
export const IO_TIMEOUT_MS_DEFAULT = 5000;
export const CONNECT_TIMEOUT_MS_DEFAULT = 2000;
export const TIMEOUT_MS_MIN = 10;
export const TIMEOUT_MS_MAX = 3_600_000;
/** SPA_MINDEVSIZE: smaller devices cannot be in a pool. */
export const DEVICE_BYTES_MIN = 64 * 1024 ** 2;
/** ZVOL_DEFAULT_BLOCKSIZE. */
export const VOLBLOCKSIZE_DEFAULT = 16 * 1024;
export const VOLBLOCKSIZE_MIN = 512;
/** SPA_MAXBLOCKSIZE. */
export const VOLBLOCKSIZE_MAX = 16 * 1024 ** 2;
/** sun_path without its terminating NUL. */
export const SOCKET_PATH_BYTES_MAX = 107;
