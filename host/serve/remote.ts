import type { RemoteDeviceConfig } from '../config/config.ts';
import { NbdDisk } from '../devices/nbd/disk.ts';
import { REMOTE_FOLDER, RemoteDisks } from '../devices/remote.ts';
import { loadClientTls } from '../net/tls.ts';
import { StartError } from './errors.ts';

/** The remote disks of a configuration, each tried once. Rejects with StartError when keys or certificates cannot be used. */
export async function startRemoteDisks(devices: readonly RemoteDeviceConfig[]): Promise<RemoteDisks> {
  const disks: NbdDisk[] = [];
  const errors: string[] = [];
  for (const { name, address, tls, ioTimeoutMs, connectTimeoutMs, slow } of devices) {
    try {
      disks.push(
        new NbdDisk({
          name: REMOTE_FOLDER + name,
          address,
          ioTimeoutMs,
          connectTimeoutMs,
          slow,
          ...(tls !== undefined && {
            tls: await loadClientTls(tls, address.kind === 'tcp' ? address.host : undefined),
          }),
        }),
      );
    } catch (error) {
      errors.push(`devices: ${name}: ${(error as Error).message}`);
    }
  }
  if (errors.length > 0) throw new StartError(errors);
  const remote = new RemoteDisks(disks);
  await remote.start();
  return remote;
}
