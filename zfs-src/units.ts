// The one table of what is built, from which sources and with which flags. Upstream's part is named by upstream's own library and
// program names; which sources those have, what they depend on, and their own flags comes from upstream's makefiles (automake.ts).
// Paths are relative to the project, upstream's and musl's to their trees.

/** musl, as far as the core and the programs use it. What is left out needs a kernel, or is ours (wasm/libc/). */
export const MUSL = {
  directories: [
    ...[
      'conf',
      'ctype',
      'dirent',
      'env',
      'errno',
      'exit',
      'fcntl',
      'fenv',
      'internal',
      'legacy',
      'linux',
      'locale',
      'math',
    ],
    ...[
      'misc',
      'mman',
      'multibyte',
      'network',
      'passwd',
      'prng',
      'process',
      'regex',
      'sched',
      'search',
      'select',
      'signal',
    ],
    ...['stat', 'stdio', 'stdlib', 'string', 'temp', 'termios', 'time', 'unistd'],
  ],
  /** Files of subdirectories, which are architectures' otherwise. */
  extra: ['setjmp/wasm32/rt.c'],
  without: [
    ...['conf/sysconf.c', 'env/__init_tls.c', 'env/__libc_start_main.c', 'errno/__errno_location.c', 'exit/abort.c'],
    ...['exit/abort_lock.c', 'fcntl/posix_fadvise.c', 'legacy/getpagesize.c', 'linux/brk.c', 'linux/sbrk.c'],
    ...['linux/sync_file_range.c', 'signal/raise.c', 'stdio/__lockfile.c', 'stdio/flockfile.c', 'stdio/funlockfile.c'],
    'unistd/lseek.c',
  ],
  own: ['wasm/libc/*.c'],
};

/** The core: libzpool and what it needs, with the kernel-only code that makes it a whole `/dev/zfs`. */
export const CORE = {
  output: 'zow.wasm',
  upstream: [
    'libzpool',
    'libicp',
    'libunicode',
    'libnvpair',
    'libzstd',
    'libzutil',
    'libavl',
    'libspl',
    'libspl_assert',
  ],
  /** Upstream's files that libzpool lacks: the ioctls, volumes, and the kernel's XDR. */
  extra: ['module/zfs/zfs_ioctl.c', 'module/zfs/zfs_onexit.c', 'module/zfs/zvol.c', 'module/os/linux/spl/spl-xdr.c'],
  /** What only programs use. */
  without: [
    ...['lib/libnvpair/libnvpair.c', 'lib/libnvpair/libnvpair_json.c', 'lib/libspl/getexecname.c'],
    ...['lib/libspl/os/linux/getexecname.c', 'lib/libspl/os/linux/getmntany.c', 'lib/libzutil/zutil_import.c'],
    ...['lib/libzutil/os/linux/zutil_device_path_os.c', 'lib/libzutil/os/linux/zutil_import_os.c'],
    'lib/libzutil/os/linux/zutil_setproctitle.c',
  ],
  own: ['wasm/core/*.c'],
};

/** Programs that are compiled to wasm. */
export const WASM_PROGRAMS = ['zpool', 'zfs', 'zdb', 'zstream', 'zinject'];

/** Programs that are built natively: to verify pools, and to prove that a 64-bit CLI and the core speak one ABI. */
export const NATIVE_PROGRAMS = ['zpool', 'zfs', 'zdb', 'zstream', 'zinject', 'ztest'];

/** Ours in every program, wasm and native: the client side of the ioctl transport. */
export const CLIENT = ['cli/src/*.c'];

/** Sources that are for one CPU although their names end in .c; they are empty, or do not compile, elsewhere. */
export const MACHINE_CODE = /_(aesni|x86-64|pclmulqdq|intel|sse\w*|ssse3|avx\w*|aarch64\w*|powerpc\w*)\.c$/;

/** What single upstream files need beside their unit's flags, by the start of their path. */
export const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  'module/lua/': ['-I{tree}/module/lua'],
  'module/os/linux/spl/spl-xdr.c': ['-DEXPORT_SYMBOL(x)=', '-Dnoinline='],
  'module/zstd/': ['-include', '{tree}/module/zstd/include/zstd_compat_wrapper.h', '-fno-vectorize'],
  'stdio/__stdio_seek.c': ['-D__lseek=lseek', '-include', 'unistd.h'],
};

/** Features of wasm that every engine with JSPI has. */
export const WASM_FLAGS = [
  ...['--target=wasm32-unknown-unknown', '-O2', '-nostdlibinc', '-fno-strict-aliasing', '-ffile-compilation-dir=.'],
  ...['-mbulk-memory', '-msimd128', '-mnontrapping-fptoint', '-msign-ext', '-mmutable-globals', '-mmultivalue'],
  ...['-mllvm', '-wasm-enable-sjlj', '-D__linux__', '-D__wasilibc_unmodified_upstream=1'],
  ...['-D_WASI_EMULATED_PROCESS_CLOCKS', '-D_WASI_EMULATED_SIGNAL', '-D_WASI_EMULATED_MMAN', '-D_WASI_EMULATED_GETPID'],
];

/** Warnings for our own C. */
export const OWN_WARNINGS = [
  ...['-Wall', '-Wextra', '-Wno-sign-compare', '-Wno-unused-parameter', '-Wno-unused-function', '-Wno-unknown-pragmas'],
  ...['-Wno-missing-field-initializers', '-Wno-expansion-to-defined', '-Wno-null-pointer-arithmetic'],
  '-Wno-unused-but-set-variable',
];

/** How the core is linked: one memory of a fixed size; gc drops what no export reaches. */
export const CORE_LINK = [
  ...['--no-entry', '--export=__stack_pointer', '--export=__wasm_call_ctors', '--export-memory', '--gc-sections'],
  ...['-z', 'stack-size=1048576', '--initial-memory=2147418112', '--max-memory=2147418112'],
];

/** How a program is linked: a WASI command whose memory grows. */
export const PROGRAM_LINK = [
  ...['--no-entry', '--export=__stack_pointer', '--export=__wasm_call_ctors', '--export-memory', '--gc-sections'],
  ...['-z', 'stack-size=1048576', '--initial-memory=16777216', '--max-memory=2147418112'],
];

/** Libraries of Debian's that native programs use, under the names that upstream's makefiles have for them. */
export const NATIVE_LIBRARIES = {
  LIBTIRPC_CFLAGS: '-I/usr/include/tirpc',
  LIBTIRPC_LIBS: '-ltirpc',
  LIBBLKID_LIBS: '-lblkid',
  LIBUUID_LIBS: '-luuid',
  LIBCRYPTO_LIBS: '-lcrypto',
  ZLIB_LIBS: '-lz',
};
