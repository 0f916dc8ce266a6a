// The one table of what is built, from which sources and with which flags. Upstream's part is named by upstream's own library and
// program names; which sources those have, what they depend on, and their own flags comes from upstream's makefiles (automake.ts).
// Paths are relative to the project, upstream's and musl's to their trees.

/** musl, as far as the core and the programs use it. What is left out needs a kernel, or is ours (wasm/libc/). */
export const MUSL = {
  /** Patterns below musl's src/. */
  files: [
    '{conf,ctype,dirent,env,errno,exit,fcntl,fenv,internal,legacy,linux,locale,misc,mman,multibyte,passwd,prng}/*.c',
    '{process,regex,sched,search,select,signal,stat,stdio,stdlib,string,temp,termios,time,unistd}/*.c',
    'math/{__fpclassify,__math_,__signbit,ceil,copysign,exp,fabs,floor,fmod,frexp,ldexp,log,pow,round,scalbn,sqrt}*.c',
    'network/{accept,bind,connect,get*opt,hton*,listen,ntoh*,recv*,send*,set*opt,shutdown,socket*}.c',
    'setjmp/wasm32/rt.c',
    'thread/pthread_{attr_get,attr_setinheritsched,attr_setsched*,attr_setscope,attr_setstack,cleanup_push}.c',
  ],
  without: [
    ...['time/timer_create.c', 'time/timer_settime.c', 'time/timer_delete.c', 'unistd/pause.c'],
    ...['conf/sysconf.c', 'env/__init_tls.c', 'env/__libc_start_main.c', 'errno/__errno_location.c', 'exit/abort.c'],
    ...[
      'fcntl/posix_fadvise.c',
      'legacy/getpagesize.c',
      'process/fork.c',
      'process/_Fork.c',
      'process/vfork.c',
      'linux/brk.c',
      'linux/sbrk.c',
    ],
    ...['linux/sync_file_range.c', 'signal/raise.c', 'stdio/__lockfile.c', 'stdio/flockfile.c', 'stdio/funlockfile.c'],
  ],
};

/** Ours under the core and every program: fibers, pthreads, malloc, system calls. */
export const LIBC = ['wasm/libc/*.c'];

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
  /** Upstream's files that libzpool lacks: the ioctls, volumes, and the quotas and space accounting of filesystems. */
  extra: [
    ...['module/zfs/zfs_ioctl.c', 'module/zfs/zfs_onexit.c', 'module/zfs/zvol.c', 'module/zfs/dataset_kstats.c'],
    ...['module/zfs/zfs_quota.c', 'module/nvpair/nvpair_alloc_spl.c'],
    // Setters of tunables, and the log of debug messages as a kernel shows it.
    ...['module/os/linux/zfs/mmp_os.c', 'module/os/linux/zfs/spa_misc_os.c', 'module/os/linux/zfs/zfs_debug.c'],
  ],
  /** What is compiled without `_KERNEL`, by the start of its path: its kernel side would need a kernel's headers. */
  userspace: [
    ...['module/lua/', 'module/unicode/', 'module/icp/', 'module/zstd/', 'lib/'],
    ...['module/zfs/dmu.c', 'module/zfs/dmu_direct.c', 'module/zfs/sa.c', 'module/zfs/zfs_sa.c'],
    'module/os/linux/zfs/zfs_znode.c',
    'module/os/linux/zfs/abd_os.c',
    ...['module/zfs/zfs_znode.c', 'module/zfs/abd.c', 'module/zfs/vdev_raidz_math.c', 'module/zcommon/zfs_fletcher.c'],
    'module/zcommon/simd_stat.c',
  ],
  /** What is compiled with `_KERNEL` although `userspace` covers it. */
  kernel: [
    ...['module/icp/algs/blake3/blake3_impl.c', 'module/icp/algs/sha2/sha256_impl.c'],
    ...['module/icp/algs/sha2/sha512_impl.c', 'module/zstd/zfs_zstd.c'],
  ],
  /**
   * What computes for long without a lock or an allocation: each of its functions gives way when it is entered
   * (wasm/libc/fiber.h). The interpreter of channel programs, whose patterns can match for ever; lists of names; the trees of free
   * space; what is tried to reconstruct a block of raidz.
   */
  preempted: [
    ...['module/lua/lstrlib.c', 'module/lua/', 'module/nvpair/nvpair.c', 'module/avl/avl.c', 'module/zfs/btree.c'],
    ...['module/zfs/range_tree.c', 'module/zfs/vdev_raidz.c'],
  ],
  /** Functions that get another name, because the kernel's own, or wasm/core/'s, takes their place: docs/differences.md says why. */
  renamed: {
    'lib/libzpool/abd_os.c': ['abd_size_alloc_linear'],
    'module/os/linux/zfs/abd_os.c': ['abd_size_alloc_linear'],
    'lib/libzpool/taskq.c': ['taskq_dispatch_delay', 'taskq_cancel_id'],
    'module/os/linux/zfs/spa_misc_os.c': ['spa_history_zone'],
    // Who removes a minor waits for it with no lock held: zvol_os.c.
    'module/zfs/zvol.c': ['rw_enter', 'rw_exit'],
    // From where a receive that is interrupted goes on: receive_resume.c.
    'module/zfs/dmu_recv.c': ['dmu_object_set_compress', 'dmu_tx_commit'],
    // What its blocks wait for is made in flush.c; suspensions are waited for (zil_wait.c).
    'module/zfs/zil.c': ['zio_root', 'txg_wait_synced_flags'],
    // Whether a ZAP object is one that ZFS has written: zap_check.c, and of zap.c zap_block.h.
    'module/zfs/zap_micro.c': ['dmu_buf_hold', 'dmu_buf_hold_by_dnode'],
    // Its format has Linux's %px.
    'module/os/linux/zfs/zfs_debug.c': ['snprintf'],
    'lib/libzpool/kernel.c': [
      ...[
        'zvol_rename_minors',
        'zvol_remove_minors',
        'zvol_create_minors',
        'zvol_create_minor',
        'zvol_create_minors_recursive',
      ],
      ...['zfs_onexit_fd_rele', 'zfs_onexit_fd_hold', 'zfs_onexit_add_cb'],
      ...['zfs_secpolicy_snapshot_perms', 'zfs_secpolicy_rename_perms', 'zfs_secpolicy_destroy_perms', 'secpolicy_zfs'],
      ...['kstat_create', 'kstat_install', 'kstat_delete', 'kstat_set_raw_ops', 'cv_wait_sig', 'spa_config_load'],
      ...['procfs_list_install', 'procfs_list_uninstall', 'procfs_list_destroy', 'procfs_list_add', 'seq_printf'],
      ...['spa_import_os', 'spa_export_os', 'spa_activate_os', 'spa_deactivate_os', '__dprintf'],
      ...['cmn_err', 'vcmn_err', 'panic', 'vpanic'],
      ...['zfs_file_open', 'zfs_file_close', 'zfs_file_write', 'zfs_file_pwrite', 'zfs_file_read', 'zfs_file_pread'],
      ...['zfs_file_seek', 'zfs_file_getattr', 'zfs_file_fsync', 'zfs_file_deallocate', 'zfs_file_off'],
      ...['zfs_file_unlink', 'zfs_file_get', 'zfs_file_put'],
      ...['random_init', 'random_get_bytes', 'random_get_pseudo_bytes'],
    ],
  },
  /** What only programs use, and what is replaced. */
  without: [
    ...['lib/libnvpair/libnvpair.c', 'lib/libnvpair/libnvpair_json.c', 'lib/libspl/getexecname.c'],
    ...['lib/libspl/os/linux/getexecname.c', 'lib/libspl/os/linux/getmntany.c', 'lib/libzutil/zutil_import.c'],
    ...['lib/libzutil/os/linux/zutil_device_path_os.c', 'lib/libzutil/os/linux/zutil_import_os.c'],
    'lib/libzutil/os/linux/zutil_setproctitle.c',
    // nvpair_alloc_spl.c is the kernel's.
    'lib/libnvpair/nvpair_alloc_system.c',
    // Replaced by files of wasm/core/: libzpool's are made for ztest, or for a process that may abort.
    ...['lib/libzpool/arc_os.c', 'module/zfs/vdev_file.c', 'lib/libspl/assert.c', 'lib/libspl/backtrace.c'],
    'lib/libzpool/zfs_debug.c',
    // Where older releases have the same.
    ...['module/os/linux/zfs/arc_os.c', 'module/os/linux/zfs/vdev_file.c', 'module/os/linux/zfs/trace.c'],
  ],
  own: ['wasm/core/**/*.c'],
};

/** Programs that are compiled to wasm. */
export const WASM_PROGRAMS = ['zpool', 'zfs', 'zdb', 'zstream', 'zinject', 'zed'];

/** Programs that are built natively: to verify pools, and to prove that a 64-bit CLI and the core speak one ABI. */
export const NATIVE_PROGRAMS = ['zpool', 'zfs', 'zdb', 'zstream', 'zinject', 'ztest'];

/** Programs of upstream's test suite that are built natively, to be run against a host. */
export const NATIVE_TESTS = ['tests/zfs-tests/cmd/libzfs_input_check'];

/** Ours in every program, wasm and native: the client side of the ioctl transport. */
export const CLIENT = ['cli/src/*.c'];

/** Ours in every wasm program besides: what a process asks of an operating system. */
export const WASM_PROCESS = ['wasm/program/*.c'];

/** Sources that are for one CPU although their names end in .c; they are empty, or do not compile, elsewhere. */
export const MACHINE_CODE = /_(aesni|x86-64|pclmulqdq|intel|sse\w*|ssse3|avx\w*|aarch64\w*|powerpc\w*)\.c$/;

/** Lua as it is on a 64-bit machine. */
const LUA64 = ['-I{tree}/module/lua', '-include', 'wasm/core/mended/lua64.h'];

/** What single upstream files need beside their unit's flags, by the start of their path; the first that fits counts. */
export const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  'cmd/zed/zed.c': ['-Dgeteuid=zow_administrator'],
  'cmd/zed/zed_conf.c': ['-Dfdatasync=zow_no_sync'],
  'cmd/zpool/zpool_main.c': ['-include', 'wasm/program/overlay/zpool_iostat.h'],
  'lib/libzfs_core/libzfs_core.c': ['-include', 'cli/src/zow_fifo.h'],
  'module/zfs/zap.c': ['-include', 'wasm/core/mended/zap_block.h'],
  'module/zfs/zfs_chksum.c': ['-include', 'wasm/core/mended/preempt.h'],
  'module/lua/lstrlib.c': [...LUA64, '-DLUA_USE_LONGLONG', '-DZOW_LUA_POSITIONS'],
  'module/lua/': LUA64,
  'module/zfs/zcp': LUA64,
  'module/zstd/': ['-include', '{tree}/module/zstd/include/zstd_compat_wrapper.h', '-fno-vectorize'],
  'stdio/__stdio_seek.c': ['-D__lseek=lseek', '-include', 'unistd.h'],
};

/** Features of wasm that every engine with JSPI has. */
export const WASM_FLAGS = [
  ...['--target=wasm32-unknown-unknown', '-nostdlibinc', '-fno-strict-aliasing', '-ffile-compilation-dir=.'],
  ...['-mbulk-memory', '-msimd128', '-mnontrapping-fptoint', '-msign-ext', '-mmutable-globals', '-mmultivalue'],
  ...['-mllvm', '-wasm-enable-sjlj', '-D__linux__', '-D__wasilibc_unmodified_upstream=1'],
  ...['-D_WASI_EMULATED_PROCESS_CLOCKS', '-D_WASI_EMULATED_SIGNAL', '-D_WASI_EMULATED_MMAN', '-D_WASI_EMULATED_GETPID'],
];

/** Warnings for our own C. */
export const OWN_WARNINGS = [
  ...['-Wall', '-Wextra', '-Wno-sign-compare', '-Wno-unused-parameter', '-Wno-unused-function', '-Wno-unknown-pragmas'],
  ...['-Wno-missing-field-initializers', '-Wno-expansion-to-defined', '-Wno-null-pointer-arithmetic'],
  ...['-Wno-unused-but-set-variable', '-Wno-visibility'],
];

/**
 * How wasm is linked: the host brings a shared memory of a fixed size; gc drops what no export reaches. Names of functions stay in
 * (a panic's stack is useless without them), DWARF only in a debug build.
 */
export const WASM_LINK = [
  ...['--no-entry', '--import-memory', '--shared-memory', '--no-check-features', '--gc-sections', '--error-limit=0'],
  ...['-z', 'stack-size=262144', '--initial-memory=67108864', '--max-memory=4294967296'],
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
