import { linuxFfi } from '../ffi.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9n;

/**
 * From now on this process is killed when its parent ends, however that ends: it must not keep a pool that the next
 * host imports. Ends it at once where the parent is gone already.
 */
export function endWithParent(parent: number): void {
  const ffi = linuxFfi();
  if (ffi !== undefined) {
    const { functions: libc } = ffi.dlopen(null, {
      prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
    });
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0n, 0n, 0n);
  }
  // Without FFI, and where it ended before: the channel to it is closed.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  if (process.ppid !== parent || !process.connected) process.kill(process.pid, 'SIGKILL');
}
