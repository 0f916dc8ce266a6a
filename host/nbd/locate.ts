import { Errno, ErrnoError } from '../errno.ts';
import type { ListenerAddress } from '../net/listener.ts';
import { Exports } from '../volumes/exports.ts';
import type { VolumeProvider } from '../volumes/volume.ts';
import type { NbdListenerOptions } from './listener-options.ts';

/** A volume, and where NBD clients of this machine get it. Guids are decimal: they have 64 bits. */
export interface LocatedVolume {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** `volblocksize`, bytes. */
  readonly blockSize: number;
  /** Nobody can change it there. */
  readonly readOnly: boolean;
  readonly guid: string;
  readonly poolGuid: string;
  readonly address: Pick<ListenerAddress, 'unix' | 'tcp'>;
}

/** A listener, and where it can be reached. */
export interface OpenListener {
  readonly options: NbdListenerOptions;
  readonly address: ListenerAddress;
}

/**
 * Finds a volume, or a snapshot of one, and the best listener for programs of this machine: one that lets it be written,
 * over a unix socket, and that asks for no TLS. Rejects with ErrnoError, whose sentence is for a person.
 */
export async function locateVolume(
  provider: VolumeProvider,
  listeners: readonly OpenListener[],
  name: string,
): Promise<LocatedVolume> {
  // First, since a volume that is not there is what most errors are about.
  const info = provider.find(name) ?? (await provider.reveal?.(name));
  if (info === undefined) throw new ErrnoError(Errno.ENOENT, `there is no volume ${name}`);
  if (listeners.length === 0) {
    const add = 'add a listener to its configuration, nbd: [{ unix: nbd.sock }]';
    throw new ErrnoError(Errno.ENXIO, `the host serves nothing over NBD: ${add}`);
  }
  const fit: { readonly readOnly: boolean; readonly address: ListenerAddress }[] = [];
  for (const { options, address } of listeners) {
    if (options.tls?.mode === 'required') continue;
    const exports = new Exports(provider, options);
    const isShown = await exports.find(name).then(
      () => true,
      () => false,
    );
    if (isShown) fit.push({ readOnly: exports.readOnly(info), address });
  }
  const [best] = fit.sort((a, b) => rank(a) - rank(b));
  if (best === undefined) throw new ErrnoError(Errno.EACCES, `no NBD listener of the host shows ${name} without TLS`);
  const { unix, tcp } = best.address;
  return {
    ...{ name: info.name, size: info.size, blockSize: info.blockSize, readOnly: best.readOnly },
    ...{ guid: String(info.guid), poolGuid: String(info.poolGuid) },
    address: unix === undefined ? { tcp: tcp! } : { unix },
  };
}

function rank({ readOnly, address }: { readonly readOnly: boolean; readonly address: ListenerAddress }): number {
  return (readOnly ? 2 : 0) + (address.unix === undefined ? 1 : 0);
}
