/**
 * Which engine an ioctl goes to. Those that name a pool, in zc_name, go to its engine; the few others are listed here,
 * and docs/ioctls.md says of each what is done.
 */
export type Route =
  /** To the engine of the pool in zc_name. One that is unknown gets its errno from an engine without it. */
  | 'pool'
  /** As pool; where there is none of that name, to an engine that has no pool yet. */
  | 'new'
  /** As pool; the pool may be gone, or another may be there, when it is over. */
  | 'leave'
  /** To an engine without a pool: it is about pools that are not imported. */
  | 'none'
  /** All engines are asked. */
  | 'configs'
  | 'stats'
  | 'props'
  | 'inject'
  | 'injected-next'
  | 'injected-clear'
  /** To the engine that the client's process changed something in last: the line is about that. */
  | 'history'
  /** The supervisor keeps the events of all engines. */
  | 'events-next'
  | 'events-clear'
  | 'events-seek';

/** By ioctl number, of zfs_ioc_t (include/sys/fs/zfs.h): what is not by pool. */
const routes = new Map<number, Route>([
  [0x5a00, 'new'], // ZFS_IOC_POOL_CREATE
  [0x5a01, 'leave'], // ZFS_IOC_POOL_DESTROY
  [0x5a02, 'new'], // ZFS_IOC_POOL_IMPORT
  [0x5a03, 'leave'], // ZFS_IOC_POOL_EXPORT
  [0x5a04, 'configs'], // ZFS_IOC_POOL_CONFIGS
  [0x5a05, 'stats'], // ZFS_IOC_POOL_STATS
  [0x5a06, 'none'], // ZFS_IOC_POOL_TRYIMPORT
  [0x5a27, 'props'], // ZFS_IOC_POOL_GET_PROPS
  [0x5a1d, 'inject'], // ZFS_IOC_INJECT_FAULT
  [0x5a1e, 'injected-clear'], // ZFS_IOC_CLEAR_FAULT
  [0x5a1f, 'injected-next'], // ZFS_IOC_INJECT_LIST_NEXT
  [0x5a34, 'leave'], // ZFS_IOC_VDEV_SPLIT: a second pool is there meanwhile
  [0x5a3f, 'history'], // ZFS_IOC_LOG_HISTORY
  [0x5a81, 'events-next'], // ZFS_IOC_EVENTS_NEXT
  [0x5a82, 'events-clear'], // ZFS_IOC_EVENTS_CLEAR
  [0x5a83, 'events-seek'], // ZFS_IOC_EVENTS_SEEK
]);

export const Ioc = {
  poolCreate: 0x5a00,
  poolImport: 0x5a02,
  poolConfigs: 0x5a04,
  poolStats: 0x5a05,
  tryImport: 0x5a06,
  send: 0x5a1c,
  injectNext: 0x5a1f,
  sendNew: 0x5a40,
  eventsNext: 0x5a81,
} as const;

export function routeOf(request: number): Route {
  return routes.get(request) ?? 'pool';
}

/** They change no volume, and there are many of them: nothing has to be heard from the engine before they are answered. */
const readers = new Set([
  ...[0x5a04, 0x5a05, 0x5a12, 0x5a13, 0x5a14, 0x5a15, 0x5a27, 0x5a0a, 0x5a20, 0x5a24, 0x5a25, 0x5a2d, 0x5a2e],
  ...[0x5a32, 0x5a33, 0x5a35, 0x5a36, 0x5a38, 0x5a39, 0x5a3a, 0x5a3e, 0x5a40, 0x5a41, 0x5a44, 0x5a52, 0x5a53, 0x5a54],
  ...[0x5a1c, 0x5a29, 0x5a55, 0x5a88],
]);

/** ZFS_IOC_VDEV_ADD to _SETPATH: the pool's devices are others then. */
export function changesDevices(request: number): boolean {
  return request >= 0x5a0b && request <= 0x5a10;
}

export function isReader(request: number): boolean {
  return readers.has(request);
}

/** Readers that are told EIO when their engine is silent: not those that write to a descriptor meanwhile. */
export function canBeGivenUp(request: number): boolean {
  return readers.has(request) && request !== Ioc.send && request !== Ioc.sendNew;
}

/** `tank` of `tank/vm0@monday`: what zc_name begins with. */
export function poolOf(cmd: Uint8Array): string {
  let end = 0;
  while (end < 4096 && !isEnd(cmd[end]!)) end++;
  return Buffer.from(cmd.buffer, cmd.byteOffset, end).toString('latin1');
}

function isEnd(byte: number): boolean {
  return byte === 0 || byte === 0x2f || byte === 0x40 || byte === 0x23; // NUL / @ #
}
