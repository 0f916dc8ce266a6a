import fs from 'node:fs';
import { Errno } from '../errno.ts';
import type { DescriptorDevice } from './descriptor.ts';
import { type DescriptorOpenOptions, openDescriptor } from './file.ts';
import { readOnlyError } from './range.ts';
import { syscalls } from './syscalls.ts';

/**
 * Opens a block device (Linux). Its geometry is what sysfs says under /sys/dev/block/MAJOR:MINOR (kernel:
 * Documentation/ABI/stable/sysfs-block); of a partition, the queue is its disk's.
 * Errors as `openFile`; EROFS for writing on a device that is read-only, EBUSY also when it is mounted or part of a RAID.
 */
export function openBlock(path: string, options: DescriptorOpenOptions = {}): Promise<DescriptorDevice> {
  return openDescriptor(path, options, 'block device', (_fd, stat) => {
    const sys = sysfsOf(stat.rdev);
    if (options.readOnly !== true && attribute(sys, 'ro') !== 0) throw readOnlyError(path);
    const queue = fs.existsSync(`${sys}/queue`) ? `${sys}/queue` : `${sys}/../queue`;
    const writable = options.readOnly !== true && syscalls !== undefined;
    return {
      identity: `block:${sys.slice('/sys/dev/block/'.length)}`,
      nonRotational: attribute(queue, 'rotational') === 0,
      logicalSectorBytes: attribute(queue, 'logical_block_size', 512),
      physicalSectorBytes: attribute(queue, 'physical_block_size', 512),
      // A discarded range may read as anything, so zeroes are a call of their own, and only worth it where the device has it.
      trimCall: writable && attribute(queue, 'discard_max_bytes') > 0 ? 'discard' : undefined,
      zeroCall: writable && attribute(queue, 'write_zeroes_max_bytes') > 0 ? 'zero' : undefined,
      // Always in units of 512 bytes, whatever the sector size.
      measure: () => attribute(sys, 'size') * 512,
      isSame: ({ rdev }) => rdev === stat.rdev && fs.existsSync(sys),
      exists: () => fs.existsSync(sys),
      writeErrorsAreLate: (errno) => errno === Errno.EIO,
    };
  });
}

/** glibc's gnu_dev_major and gnu_dev_minor. */
function sysfsOf(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `/sys/dev/block/${major}:${minor}`;
}

/** A number in sysfs; `otherwise` where the kernel does not have the attribute. Throws when there is no default. */
function attribute(folder: string, name: string, otherwise = 0): number {
  try {
    return Number(fs.readFileSync(`${folder}/${name}`, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return otherwise;
  }
}
