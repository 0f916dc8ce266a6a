import type {
  Config,
  IscsiListenerConfig,
  NbdListenerConfig,
  PoolConfig,
  RemoteDeviceConfig,
} from '../config/config.ts';
import { formatSize } from '../config/size.ts';

/** What another configuration changes of the one that a host runs with, before it is known what is on its disks. */
export interface Difference {
  /** What will be in force: the new one, and in it what cannot change now as it is. */
  readonly config: Config;
  /** Why something of it takes effect only at the next start, one line each. */
  readonly fixed: readonly string[];
  /** What is not in the file any more and stays as it is, one line each. */
  readonly left: readonly string[];
  /** Remote disks that are new. */
  readonly devices: readonly RemoteDeviceConfig[];
  /** Tunables that are new, or have another value. */
  readonly tunables: Config['tunables'];
  readonly listeners: {
    /** Lines such as `nbd 127.0.0.1:10809`. */
    readonly opened: readonly string[];
    readonly closed: readonly string[];
    /** All iSCSI sessions end: what all listeners have in common is another. */
    readonly isIscsiRestarted: boolean;
    readonly isHttpChanged: boolean;
  };
  /** Of the log and zed, one line each. */
  readonly others: readonly string[];
}

/** Compares configurations; nothing is opened. */
export function compareConfigs(current: Config, next: Config): Difference {
  const fixed: string[] = [];
  const left: string[] = [];
  const others: string[] = [];
  if (next.socket !== current.socket) fixed.push(`socket: ${next.socket} at the next start; it is ${current.socket}`);
  if (next.memoryBytes !== current.memoryBytes) {
    fixed.push(`memory: ${formatSize(next.memoryBytes)} at the next start; it is ${formatSize(current.memoryBytes)}`);
  }
  const pools = next.pools.map((pool) => poolInForce(pool, current, next, fixed, left));
  for (const { name } of current.pools) {
    if (!next.pools.some((pool) => pool.name === name))
      left.push(`pool ${name}: not in the file any more; it stays imported, zpool export ${name} ends that`);
  }
  const devices = compareDevices(current.devices, next.devices, fixed, left);
  for (const { name } of current.tunables) {
    if (!next.tunables.some((tunable) => tunable.name === name))
      left.push(`tunable ${name}: not in the file any more; it keeps its value until the next start`);
  }
  const tunables = next.tunables.filter(
    ({ name, value }) => !current.tunables.some((tunable) => tunable.name === name && tunable.value === value),
  );
  if ((next.logLevel ?? 'info') !== (current.logLevel ?? 'info')) others.push(`log.level: ${next.logLevel ?? 'info'}`);
  if ((next.logFormat ?? 'auto') !== (current.logFormat ?? 'auto'))
    others.push(`log.format: ${next.logFormat ?? 'auto'}`);
  if (next.zed !== current.zed) others.push(`zed: ${next.zed ? 'starts' : 'ends'}`);
  return {
    config: { ...next, socket: current.socket, memoryBytes: current.memoryBytes, pools, devices: devices.inForce },
    ...{ fixed, left, devices: devices.added, tunables, others },
    listeners: compareListeners(current, next),
  };
}

function poolInForce(pool: PoolConfig, current: Config, next: Config, fixed: string[], left: string[]): PoolConfig {
  const here = current.pools.find(({ name }) => name === pool.name);
  if (here === undefined) {
    const isOwn = pool.memoryBytes !== next.memoryBytes;
    return isOwn ? pool : { ...pool, memoryBytes: current.memoryBytes };
  }
  if (pool.memoryBytes !== here.memoryBytes && pool.memoryBytes !== next.memoryBytes)
    fixed.push(`pool ${pool.name}: memory of ${formatSize(pool.memoryBytes)} at the next start`);
  if (keyOf(pool.vdevs.args) !== keyOf(here.vdevs.args)) {
    left.push(`pool ${pool.name}: its vdevs are as they are; zpool add, attach and replace change them`);
  }
  for (const { name } of here.volumes) {
    if (!pool.volumes.some((volume) => volume.name === name))
      left.push(`volume ${name}: not in the file any more; it is left as it is`);
  }
  return { ...pool, memoryBytes: here.memoryBytes };
}

function compareDevices(
  current: readonly RemoteDeviceConfig[],
  next: readonly RemoteDeviceConfig[],
  fixed: string[],
  left: string[],
): { readonly inForce: RemoteDeviceConfig[]; readonly added: RemoteDeviceConfig[] } {
  const added = next.filter(({ name }) => !current.some((device) => device.name === name));
  for (const device of current) {
    const wanted = next.find(({ name }) => name === device.name);
    if (wanted === undefined)
      left.push(`device ${device.name}: not in the file any more; it stays connected until the next start`);
    else if (keyOf(wanted) !== keyOf(device)) fixed.push(`device ${device.name}: as in the file at the next start`);
  }
  return { inForce: [...current, ...added], added };
}

function compareListeners(current: Config, next: Config): Difference['listeners'] {
  const isIscsiRestarted =
    current.iscsi.length > 0 &&
    next.iscsi.length > 0 &&
    keyOf([current.targets, current.iscsi[0]!.blockBytes]) !== keyOf([next.targets, next.iscsi[0]!.blockBytes]);
  const before = listenersOf(current);
  const after = listenersOf(next);
  const opened: string[] = [];
  const closed: string[] = [];
  const without = (of: ReadonlyMap<string, string>, others: ReadonlyMap<string, string>, into: string[]) => {
    for (const [key, line] of of)
      if (!others.has(key) || (isIscsiRestarted && line.startsWith('iscsi'))) into.push(line);
  };
  without(after, before, opened);
  without(before, after, closed);
  return { opened, closed, isIscsiRestarted, isHttpChanged: keyOf(current.http) !== keyOf(next.http) };
}

/** How each listener is shown, by its key. */
function listenersOf({ nbd, iscsi, http }: Config): ReadonlyMap<string, string> {
  const lines = new Map<string, string>();
  for (const listener of nbd) lines.set(`nbd ${keyOf(listener)}`, `nbd ${where(listener)}`);
  for (const listener of iscsi) lines.set(`iscsi ${keyOf(listener)}`, `iscsi ${listener.address}`);
  if (http !== undefined) lines.set(`http ${keyOf(http)}`, `http ${where(http)}`);
  return lines;
}

function where(
  listener: { readonly kind: 'unix'; readonly path: string } | { readonly kind: 'tcp'; readonly address: string },
): string {
  return listener.kind === 'unix' ? listener.path : listener.address;
}

/** Equal for equal parts of configurations. What is no data, an address list's function for one, follows from what is. */
export function keyOf(
  part: NbdListenerConfig | IscsiListenerConfig | RemoteDeviceConfig | Config['http'] | readonly unknown[],
): string {
  return JSON.stringify(part ?? null, (_, value: unknown) => (value instanceof Map ? [...value] : value));
}
