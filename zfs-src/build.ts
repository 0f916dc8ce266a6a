// The build's command line: `build.ts fetch|wasm|native [--release R] [--debug]`. build.sh is the entry that users call.
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Context } from './context.ts';
import { adoptTree, defaultPlaces, unpack } from './fetch.ts';
import { writeMakefile } from './makefile.ts';
import { nativePlan, publishNative } from './native.ts';
import type { Plan } from './plan.ts';
import {
  BuildError,
  DISK_FULL,
  findRelease,
  projectRoot,
  type Releases,
  readReleases,
  saysDiskFull,
} from './releases.ts';
import { run } from './run.ts';
import { writeSeamTypes } from './seam.ts';
import { findTools } from './tools.ts';
import { userTreeVersion } from './tree.ts';
import { CORE } from './units.ts';
import { wasmPlan } from './wasm.ts';

/** What can be asked for: a plan, and which of its links are wanted. */
const TARGETS: Readonly<Record<string, { plan: (context: Context) => Plan; only?: string }>> = {
  native: { plan: nativePlan },
  wasm: { plan: wasmPlan },
  core: { plan: wasmPlan, only: CORE.output },
  check: { plan: wasmPlan, only: CORE.output },
};

/** Runs make on a plan. What compilers print is passed on, except that a full disk becomes one line. */
async function make(makefile: string, goals: readonly string[], signal: AbortSignal): Promise<void> {
  let isFull = false;
  let rest = '';
  // By whole lines: clang writes the first words of an error before it knows the last.
  const onStderr = (chunk: string): void => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      isFull ||= saysDiskFull(line);
      if (!isFull && !/^make(\[\d+\])?: /.test(line)) {
        process.stderr.write(`${line}\n`);
      }
    }
  };
  const options = ['-s', '-r', '-R', '--no-print-directory', `-j${availableParallelism()}`, '-f', makefile, ...goals];
  const result = await run('make', options, { cwd: projectRoot, signal, onStderr });
  if (isFull) {
    throw new BuildError(DISK_FULL);
  }
  if (result.status !== 0) {
    throw new BuildError(`${makefile}: the build failed`);
  }
}

/** Makes sure that the sources of a release are there, and returns which. `wanted` is the one that the user named. */
async function bringRelease(
  releases: Releases,
  wanted: string | undefined,
  patches: string,
  signal: AbortSignal,
): Promise<string> {
  const { ZFS_TARBALL, ZFS_TREE } = process.env;
  const places = defaultPlaces(projectRoot, ZFS_TARBALL, signal);
  const target = (release: string): string => join(projectRoot, 'zfs-src/upstream', release);
  if (ZFS_TREE === undefined || ZFS_TREE === '') {
    const release = wanted ?? releases.default;
    await unpack(findRelease(releases, release), release, target(release), patches, places);
    return release;
  }
  if (places.override !== undefined) {
    throw new BuildError('ZFS_TARBALL and ZFS_TREE name two sources: give one of them');
  }
  const version = userTreeVersion(ZFS_TREE);
  if (wanted !== undefined && wanted !== version) {
    throw new BuildError(`${ZFS_TREE} is OpenZFS ${version}, not ${wanted}`);
  }
  await adoptTree(ZFS_TREE, releases.releases[version], version, target(version), patches, places);
  return version;
}

async function main(signal: AbortSignal): Promise<void> {
  const releases = readReleases();
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { release: { type: 'string' }, debug: { type: 'boolean', default: false } },
  });
  const patches = join(projectRoot, 'zfs-src', 'patches');
  const release = await bringRelease(releases, values.release, patches, signal);
  const tree = `zfs-src/upstream/${release}`;
  await writeSeamTypes(projectRoot);
  const libcPlaces = defaultPlaces(projectRoot, process.env.LIBC_TARBALL, signal);
  await unpack(releases.libc, 'libc', join(projectRoot, 'zfs-src/upstream/libc'), patches, libcPlaces);
  for (const target of positionals.filter((name) => name !== 'fetch')) {
    const wanted = TARGETS[target];
    if (wanted === undefined) {
      throw new BuildError(`unknown target ${target}; targets: fetch, ${Object.keys(TARGETS).join(', ')}`);
    }
    const isDefault = release === releases.default && !values.debug;
    const plan = wanted.plan({
      root: projectRoot,
      release,
      tree,
      musl: 'zfs-src/upstream/libc/libc-top-half/musl',
      debug: values.debug,
      check: target === 'check',
      tools: findTools(target === 'native' ? 'native' : 'wasm'),
    });
    await make(
      writeMakefile(projectRoot, plan),
      wanted.only === undefined ? [] : [`${plan.folder}/${wanted.only}`],
      signal,
    );
    if (target === 'native' && isDefault) {
      publishNative(projectRoot, plan);
    }
  }
}

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => interruption.abort(new BuildError(`interrupted by ${name}`)));
}
try {
  await main(interruption.signal);
} catch (error) {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof BuildError) {
    process.stderr.write(`build.sh: ${error.message}\n`);
  } else if (code === 'ENOSPC') {
    process.stderr.write(
      'build.sh: the disk is full: nothing half-written was kept; free some space and run it again\n',
    );
  } else if (code !== undefined) {
    // A system or command-line error: its message says what and where.
    process.stderr.write(`build.sh: ${(error as Error).message}\n`);
  } else {
    throw error;
  }
  process.exitCode = 1;
}
