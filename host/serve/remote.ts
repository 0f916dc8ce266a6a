import type { RemoteDeviceConfig } from '../config/config.ts';
import { NbdDisk, type NbdDiskOptions } from '../devices/nbd/disk.ts';
import { REMOTE_FOLDER, type RemoteDisk, RemoteDisks } from '../devices/remote.ts';
import { loadClientTls } from '../net/tls.ts';
import { StartError } from './errors.ts';

/** What a configuration says of a remote disk, with its keys and certificates read. Rejects when these cannot be used. */
export async function remoteDiskOptions(device: RemoteDeviceConfig): Promise<NbdDiskOptions> {
  const { name, address, tls, ioTimeoutMs, connectTimeoutMs, slow } = device;
  return {
    name: REMOTE_FOLDER + name,
    address,
    ioTimeoutMs,
    connectTimeoutMs,
    slow,
    ...(tls !== undefined && { tls: await loadClientTls(tls, address.kind === 'tcp' ? address.host : undefined) }),
  };
}

/** The remote disks of a configuration, each tried once. Rejects with StartError when keys or certificates cannot be used. */
export async function startRemoteDisks<Disk extends RemoteDisk>(
  devices: readonly RemoteDeviceConfig[],
  make: (options: NbdDiskOptions, device: RemoteDeviceConfig) => Disk,
): Promise<RemoteDisks<Disk>> {
  const disks: Disk[] = [];
  const errors: string[] = [];
  for (const device of devices) {
    try {
      disks.push(make(await remoteDiskOptions(device), device));
    } catch (error) {
      errors.push(`devices: ${device.name}: ${(error as Error).message}`);
    }
  }
  if (errors.length > 0) throw new StartError(errors);
  const remote = new RemoteDisks(disks);
  await remote.start();
  return remote;
}

/** One whose connection is this process's. */
export function ownDisk(options: NbdDiskOptions): NbdDisk {
  return new NbdDisk(options);
}
