// An unpacked OpenZFS release: its makefiles evaluated for a target.
import { join } from 'node:path';
import { Automake } from './automake.ts';

/** Where Debian installs OpenZFS; the programs look for compatibility files and scripts there. */
const INSTALLED = {
  libexecdir: '/usr/libexec',
  zfsexecdir: '/usr/libexec/zfs',
  runstatedir: '/run',
  sbindir: '/usr/sbin',
  sysconfdir: '/etc',
  pkgdatadir: '/usr/share/zfs',
};

/**
 * Every conditional that upstream's user-space makefiles test. A CPU is "none" for wasm: assembler and what belongs to it
 * is then left out by upstream's own rules.
 */
function conditions(cpu: 'x64' | 'none'): Record<string, boolean> {
  return {
    ASAN_ENABLED: false,
    UBSAN_ENABLED: false,
    BUILD_FREEBSD: false,
    BUILD_LINUX: true,
    TARGET_CPU_AARCH64: false,
    TARGET_CPU_ARM: false,
    TARGET_CPU_I386: false,
    TARGET_CPU_POWERPC: false,
    TARGET_CPU_X86_64: cpu === 'x64',
    USING_PYTHON: false,
    WANT_DEVNAME2DEVID: false,
    WANT_MMAP_LIBAIO: false,
  };
}

export interface UpstreamOptions {
  readonly cpu: 'x64' | 'none';
  /** Variables of upstream's makefiles that configure, or we, set. */
  readonly variables: Readonly<Record<string, string>>;
}

/** Evaluates upstream's makefiles. `tree` is where the release is unpacked, relative to `root`. */
export function readUpstream(root: string, tree: string, options: UpstreamOptions): Automake {
  return new Automake({
    root: join(root, tree),
    files: ['config/Rules.am', 'cmd/Makefile.am', 'lib/Makefile.am', 'tests/zfs-tests/cmd/Makefile.am'],
    conditions: conditions(options.cpu),
    substitutions: { ac_system_l: 'linux' },
    variables: { ...INSTALLED, srcdir: tree, top_srcdir: tree, ...options.variables },
  });
}
