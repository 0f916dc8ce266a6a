import type { Config } from '../../host/config/config.ts';
import type { ListenerAddress } from '../../host/net/listener.ts';
import { quote } from '../../host/quote.ts';

export interface HintContext {
  readonly config: Config;
  readonly nbdAddresses: readonly ListenerAddress[];
  /** Of the live page. */
  readonly httpAddress?: ListenerAddress | undefined;
  /** The socket that programs find by themselves; undefined where there is none. */
  readonly defaultSocket: string | undefined;
  /** How a program is typed here. */
  readonly launcher: (program: string) => readonly string[];
}

/** What to try next, for a person at a terminal: every line works when it is pasted into another one. */
export function hints({ config, nbdAddresses, httpAddress, defaultSocket, launcher }: HintContext): string {
  const zpool = launcher('zpool').map(quote).join(' ');
  const zfs = launcher('zfs').map(quote).join(' ');
  const lines: string[] = [];
  if (config.socket !== defaultSocket) lines.push(`export ZOW_SOCKET=${quote(config.socket)}`);
  const [pool] = config.pools;
  if (pool === undefined) {
    lines.push('truncate -s 1G /tmp/zow-disk.img', `${zpool} create tank /tmp/zow-disk.img`);
  }
  const name = quote(pool?.name ?? 'tank');
  lines.push(`${zpool} status`, `${zfs} list -t all`, `${zfs} create -s -V 256M ${name}/scratch`);
  const volume = pool?.volumes[0]?.name;
  if (volume !== undefined) lines.push(`${zfs} snapshot ${quote(`${volume}@first`)}`);
  const [address] = nbdAddresses;
  if (address !== undefined) {
    const uri = nbdUri(address, volume ?? `${pool?.name ?? 'tank'}/scratch`);
    lines.push(`nbdinfo ${quote(uri)}        # of Debian's libnbd-bin`);
  }
  const what = config.pools.length === 0 ? 'no pool yet' : `pool ${config.pools.map(({ name }) => name).join(', ')}`;
  const page = httpAddress?.tcp === undefined ? '' : `A page shows it live: http://${httpAddress.tcp}/\n`;
  return `\nZoW is ready: ${what}. In another terminal${relative(zpool)}:\n\n${lines.map((line) => `  ${line}\n`).join('')}\n${page}Ctrl-C exports the pools and ends it.\n`;
}

function relative(zpool: string): string {
  return zpool.includes('/') && !/^'?\//.test(zpool) ? ', in this folder' : '';
}

/** `nbd+unix:///tank/vm0?socket=/run/nbd.sock`, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md */
export function nbdUri(address: ListenerAddress, volume: string): string {
  const name = encodeURI(volume);
  if (address.unix !== undefined) return `nbd+unix:///${name}?socket=${encodeURI(address.unix)}`;
  return `nbd://${address.tcp}/${name}`;
}
