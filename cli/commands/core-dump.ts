import { linuxFfi } from '../../host/ffi.ts';

const RLIMIT_CORE = 4;

/** A core dump of the process would have every loaded key in it: when it crashes, there is none. As gpg-agent does. */
export function disableCoreDumps(): void {
  const ffi = linuxFfi();
  if (ffi === undefined) return;
  const { functions: libc } = ffi.dlopen(null, {
    getrlimit: { arguments: ['i32', 'buffer'], return: 'i32' },
    setrlimit: { arguments: ['i32', 'buffer'], return: 'i32' },
  });
  const limit = new BigUint64Array(2); // soft, hard
  if (libc.getrlimit(RLIMIT_CORE, limit) !== 0) return;
  limit[0] = 0n;
  libc.setrlimit(RLIMIT_CORE, limit);
}
