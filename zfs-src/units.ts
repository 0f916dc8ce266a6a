// The one table of what is built: which sources make which output, with which flags. Upstream's part is named by upstream's own
// library and program names; their sources, dependencies and flags come from its makefiles (automake.ts).
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Automake } from './automake.ts';
import type { Archive, Group, Link, Plan } from './plan.ts';
import { readUpstream } from './upstream.ts';

export interface Toolchain {
  /** Compilers and binutils, as commands. */
  readonly clang: string;
  readonly wasmLd: string;
  readonly wasmAr: string;
  readonly gcc: string;
  readonly ar: string;
  /** What changes when any of them changes. */
  readonly versions: string;
}

export interface Context {
  /** The project's directory; everything else is relative to it. */
  readonly root: string;
  readonly release: string;
  /** Where the release is unpacked. */
  readonly tree: string;
  readonly debug: boolean;
  readonly tools: Toolchain;
}

/** Upstream's programs that are built natively. */
const NATIVE_PROGRAMS = ['zpool', 'zfs', 'zdb', 'zstream', 'zinject', 'ztest'];

/** Libraries of Debian's that the native programs use; upstream's makefiles refer to them by these variables. */
const NATIVE_LIBRARIES = {
  LIBTIRPC_CFLAGS: '-I/usr/include/tirpc',
  LIBTIRPC_LIBS: '-ltirpc',
  LIBBLKID_LIBS: '-lblkid',
  LIBUUID_LIBS: '-luuid',
  LIBCRYPTO_LIBS: '-lcrypto',
  ZLIB_LIBS: '-lz',
};

/** Our sources that match `patterns`, sorted: the order of a directory is the file system's. */
function own(root: string, ...patterns: string[]): string[] {
  return patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
}

/** `--wrap` for each function `__wrap_NAME` that `sources` define (cstyle puts the name at the start of its line). */
function wraps(root: string, sources: readonly string[]): string[] {
  const names = sources.flatMap((source) =>
    [...readFileSync(join(root, source), 'utf8').matchAll(/^__wrap_(\w+)\(/gm)].map((match) => `--wrap=${match[1]}`),
  );
  return [...new Set(names)].sort();
}

/** Groups and archives for upstream libraries, one archive each; `adjust` turns upstream's flags into those of the target. */
function upstreamGroups(
  upstream: Automake,
  names: readonly string[],
  tree: string,
  compiler: string,
  adjust: (flags: readonly string[]) => string[],
): Group[] {
  return names.map((name) => {
    const target = upstream.target(name);
    return {
      name,
      compiler,
      sources: target.sources.map((source) => `${tree}/${source}`),
      flags: adjust(target.flags),
    };
  });
}

/**
 * The programs that run on this machine without wasm: to verify pools (zdb, ztest) and to prove that a 64-bit CLI and the core
 * speak one ABI (zpool, zfs). Upstream's libraries are linked in statically, the system's are shared.
 */
export function nativePlan(context: Context): Plan {
  const { root, tree, tools } = context;
  const folder = `build/${context.release}/${context.debug ? 'native-debug' : 'native'}`;
  const debugFlags = '-DDEBUG -UNDEBUG -DZFS_DEBUG';
  const upstream = readUpstream(root, tree, {
    cpu: process.arch === 'x64' ? 'x64' : 'none',
    variables: {
      ...NATIVE_LIBRARIES,
      top_builddir: 'cli/native',
      DEBUG_CPPFLAGS: context.debug ? debugFlags : '-UDEBUG -DNDEBUG',
    },
  });
  const common = ['-O2', '-g1', '-w', '-pthread', `-ffile-prefix-map=${tree}/=`, `-fdebug-prefix-map=${root}=.`];
  const generated = `-I${folder}/gen`;
  const adjust = (flags: readonly string[]): string[] => [generated, ...flags, ...common];
  const libraries = upstream.closure(NATIVE_PROGRAMS).filter((name) => !NATIVE_PROGRAMS.includes(name));
  const client = own(root, 'cli/src/*.c');
  const wrapFlags = wraps(root, client).map((flag) => `-Wl,${flag}`);
  const archiveOf = (library: string): string => `${folder}/lib/${library}.a`;
  return {
    folder,
    prefixes: [`${tree}/`],
    fingerprint: fingerprint(context, ['cli/native/*.h', 'cli/src/*.h']),
    groups: [
      ...upstreamGroups(upstream, [...libraries, ...NATIVE_PROGRAMS], tree, tools.gcc, adjust),
      {
        name: 'client',
        compiler: tools.gcc,
        sources: client,
        flags: [...adjust(upstream.target('libzfs_core').flags).filter((flag) => flag !== '-w'), '-Wall', '-Icli/src'],
      },
    ],
    archives: libraries.map(
      (library): Archive => ({ file: archiveOf(library), archiver: tools.ar, groups: [library] }),
    ),
    links: NATIVE_PROGRAMS.map((program): Link => {
      const needed = upstream.closure([program]);
      const system = needed.flatMap((name) => upstream.target(name).systemLibraries);
      return {
        file: `cli/native/bin/${program}`,
        linker: tools.gcc,
        flags: ['-pthread', '-Wl,-z,noexecstack', '-Wl,--build-id=sha1', ...wrapFlags],
        groups: [program, 'client'],
        archives: needed.filter((name) => name !== program).map(archiveOf),
        trailing: [...new Set([...system, '-lm'])],
      };
    }),
  };
}

/** What makes all objects stale besides flags: the tools, and which headers of ours exist on the include path. */
function fingerprint(context: Context, headers: readonly string[]): string {
  return [context.tools.versions, ...own(context.root, ...headers)].join('\n');
}

export function wasmPlan(context: Context): Plan {
  return {
    folder: `build/${context.release}/wasm`,
    prefixes: [],
    fingerprint: '',
    groups: [],
    archives: [],
    links: [],
  };
}
