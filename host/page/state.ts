import type { HostSample } from '../metrics/host-sample.ts';
import { type LivePoolIo, type LiveSample, liveOf } from '../metrics/live.ts';
import type { PoolDetails, VdevSample } from '../metrics/sample.ts';

/** What the page shows of a host, and is sent every second: plain data, as it is in JSON. Sizes are bytes, times seconds. */
export interface PageState extends Omit<LiveSample, 'pools'> {
  /** Unix time. */
  readonly time: number;
  /** Why the host should not be given work, as /readyz says it. */
  readonly troubles: readonly string[];
  readonly pools: readonly PagePool[];
}

export interface PagePool {
  readonly name: string;
  readonly state: string;
  readonly io?: Omit<LivePoolIo, 'latency' | 'scan'>;
  /** Absent: it does not answer. */
  readonly details?: PageDetails;
}

export interface PageDetails extends Pick<PoolDetails, 'dataErrors' | 'scan' | 'works' | 'vdevsLeftOut'> {
  readonly free: number;
  /** Per cent. */
  readonly fragmentation: number;
  readonly vdevs: readonly PageVdev[];
}

export type PageVdev = Omit<VdevSample, 'latency'>;

/**
 * `at`: seconds of a clock that only goes forward; `time`: Unix time. `before`: what was shown last: pools and volumes of a
 * core that does not answer are still there.
 */
export function pageStateOf(
  host: HostSample,
  { at, time, troubles }: Pick<PageState, 'at' | 'time' | 'troubles'>,
  before?: PageState,
): PageState {
  const live = liveOf(host, at);
  const details = new Map(
    host.engines.flatMap(({ sample }) => sample?.pools ?? []).map((pool) => [pool.name, pool.details]),
  );
  const pools: PagePool[] = live.pools.map(({ name, state, io }) => {
    const found = details.get(name);
    if (io === undefined || found === undefined) return { name, state };
    const { size, allocated, read, write } = io;
    return { name, state, io: { size, allocated, read, write }, details: detailsOf(found) };
  });
  const volumes = [...live.volumes];
  if (host.engines.some(({ sample }) => sample === undefined)) {
    const isOnlyCore = host.engines.length === 1;
    for (const { name } of isOnlyCore ? (before?.pools ?? []) : [])
      if (!pools.some((pool) => pool.name === name)) pools.push({ name, state: 'SILENT' });
    const silent = new Set(pools.filter(({ state }) => state === 'SILENT').map(({ name }) => name));
    for (const volume of before?.volumes ?? []) if (silent.has(volume.name.split('/', 1)[0]!)) volumes.push(volume);
  }
  return { ...live, time, troubles, pools, volumes };
}

function detailsOf({ dataErrors, scan, works, vdevs, vdevsLeftOut, properties }: PoolDetails): PageDetails {
  return {
    ...{ dataErrors, scan, works, vdevsLeftOut },
    free: properties.free ?? 0,
    fragmentation: properties.fragmentation ?? 0,
    vdevs: vdevs.map(({ latency: _, ...vdev }) => vdev),
  };
}
