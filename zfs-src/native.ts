// The plan of the programs that run on this machine without wasm.
import { mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { type Context, fingerprint, own, upstreamGroups, wraps } from './context.ts';
import type { Archive, Group, Link, Plan } from './plan.ts';
import { CLIENT, NATIVE_LIBRARIES, NATIVE_PROGRAMS, NATIVE_TESTS } from './units.ts';
import { readUpstream } from './upstream.ts';

/**
 * zpool, zfs, zdb, the others and programs of upstream's test suite for this machine, as upstream builds them: libzpool with its
 * assertions on. Upstream's libraries are linked in statically, the system's are shared.
 */
export function nativePlan(context: Context): Plan {
  const { root, tree, tools } = context;
  const folder = `build/${context.release}/${context.debug ? 'native-debug' : 'native'}`;
  const upstream = readUpstream(root, tree, {
    cpu: process.arch === 'x64' ? 'x64' : 'none',
    variables: {
      ...NATIVE_LIBRARIES,
      top_builddir: 'cli/native',
      DEBUG_CPPFLAGS: context.debug ? '-DDEBUG -UNDEBUG -DZFS_DEBUG' : '-UDEBUG -DNDEBUG',
    },
  });
  const version = `-DZFS_META_VERSION="${context.release}"`;
  const common = ['-O2', '-g1', '-w', '-pthread', `-ffile-prefix-map=${tree}/=`];
  // The folder that gcc is called in would be in every object's debug information.
  const placeFlags = ['"-fdebug-prefix-map=$(CURDIR)=."'];
  const adjust = (flags: readonly string[]): string[] => [version, ...flags, ...common];
  const programs = [...NATIVE_PROGRAMS, ...NATIVE_TESTS];
  const libraries = upstream.closure(programs).filter((name) => !programs.includes(name));
  const archiveOf = (library: string): string => `${folder}/lib/${library}.a`;
  const client = own(root, ...CLIENT);
  const clientFlags = [
    ...adjust(upstream.target('libzfs_core').flags).filter((flag) => flag !== '-w'),
    '-Wall',
    '-Icli/src',
  ];
  const wrapFlags = wraps(root, client).map((flag) => `-Wl,${flag}`);
  return {
    folder,
    prefixes: [`${tree}/`],
    fingerprint: fingerprint(context, 'cli/native/*.h', 'cli/src/*.h'),
    headers: new Map(),
    groups: [
      ...upstreamGroups(upstream, [...libraries, ...programs], tree, tools.gcc, adjust),
      { name: 'client', compiler: tools.gcc, sources: client, flags: clientFlags },
    ].map((group): Group => ({ ...group, placeFlags })),
    archives: [...libraries, 'client'].map(
      (library): Archive => ({ file: archiveOf(library), archiver: tools.ar, groups: [library] }),
    ),
    links: programs.map((program): Link => {
      const needed = upstream.closure([program]);
      const system = needed.flatMap((name) => upstream.target(name).systemLibraries);
      const archives = needed.filter((name) => name !== program).map(archiveOf);
      return {
        file: `${folder}/bin/${basename(program)}`,
        linker: tools.gcc,
        flags: ['-pthread', '-Wl,-z,noexecstack', ...wrapFlags],
        groups: [program],
        // The client is an archive: not every program has all that it wraps. The libraries need it, and it them.
        archives: [...archives, archiveOf('client'), ...archives],
        trailing: [...new Set([...system, '-lm'])],
      };
    }),
  };
}

/** Makes cli/native/bin/ lead to the programs of `plan`; each link is replaced in one step. */
export function publishNative(root: string, plan: Plan): void {
  const folder = join(root, 'cli/native/bin');
  mkdirSync(folder, { recursive: true });
  for (const link of plan.links) {
    const target = relative(folder, join(root, link.file));
    const place = join(folder, basename(link.file));
    const temporary = `${place}.new`;
    rmSync(temporary, { force: true });
    symlinkSync(target, temporary);
    renameSync(temporary, place);
  }
}
