import fs from 'node:fs';
import { Errno, ErrnoError } from '../errno.ts';
import { tracer } from '../log.ts';
import { openBlock } from './block.ts';
import type { Device } from './device.ts';
import { faultsFromEnvironment, withFaults } from './faulty/faultspec.ts';
import { type DescriptorOpenOptions, openError, openFile } from './file.ts';
import { MemoryDevice } from './memory.ts';
import { REMOTE_FOLDER, RemoteDisks, type RemoteOpener } from './remote.ts';
import { TracingDevice } from './trace.ts';

const trace = tracer('device');

/**
 * Opens a disk by what its path is: a regular file, a block device, `/dev/zow/NAME`, one of the remote disks in `remote`, or
 * `mem:NAME?size=64M`, a disk in this process's memory that lives as long as the process (for tests; the size counts at its
 * first opening).
 *
 * Rejects with an ErrnoError whose message is for users: ENOENT, EACCES, EROFS; EISDIR for a directory, EINVAL for
 * anything else that is no disk; ENXIO for a remote disk that is not connected; EBUSY when `exclusive` and another process has it. ZOW_FAULTS (see faultspec.ts) and
 * ZOW_TRACE=device put their wrappers around it.
 */
export async function openDevice(
  path: string,
  options: DescriptorOpenOptions = {},
  remote: RemoteOpener = none,
): Promise<Device> {
  let device: Device;
  if (path.startsWith(REMOTE_FOLDER)) device = await remote.open(path, options);
  else device = path.startsWith('mem:') ? openMemory(path, options) : await openPath(path, options);
  device = withFaults(device, faultsFromEnvironment());
  return trace === undefined ? device : new TracingDevice(device, trace);
}

const none = new RemoteDisks([]);

async function openPath(path: string, options: DescriptorOpenOptions): Promise<Device> {
  let stat: fs.Stats;
  try {
    stat = await fs.promises.stat(path);
  } catch (error) {
    throw openError(path, options.readOnly ?? false, error);
  }
  if (stat.isFile()) return openFile(path, options);
  if (stat.isBlockDevice()) return openBlock(path, options);
  const hint = 'a disk is a regular file or a block device';
  if (stat.isDirectory()) throw new ErrnoError(Errno.EISDIR, `${path} is a directory; ${hint}`);
  // Looked at, never opened: an open of a tape or a watchdog does something.
  throw new ErrnoError(Errno.EINVAL, `${path} is a ${otherKind(stat)}; ${hint}`);
}

function otherKind(stat: fs.Stats): string {
  if (stat.isFIFO()) return 'fifo';
  return stat.isSocket() ? 'socket' : 'character device';
}

const memories = new Map<string, Uint8Array>();

function openMemory(path: string, options: DescriptorOpenOptions): MemoryDevice {
  const match = /^mem:([\w.-]+)(?:\?size=(\d+)([KMG]?))?$/.exec(path);
  if (match === null) throw new ErrnoError(Errno.EINVAL, `${path} is not of the form mem:NAME?size=64M`);
  const [, name = '', count, unit = ''] = match;
  let content = memories.get(name);
  if (content === undefined) {
    if (count === undefined) throw new ErrnoError(Errno.ENOENT, `there is no memory disk ${name}; give it a size`);
    const bytes = Number(count) * 1024 ** ' KMG'.indexOf(unit || ' ');
    content = new Uint8Array(bytes);
    memories.set(name, content);
  }
  return new MemoryDevice(name, content, options);
}
