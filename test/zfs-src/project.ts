// Help for the tests of the build: a release's sources, and a project of its own to try things in.
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { defaultPlaces, unpack } from '../../zfs-src/fetch.ts';
import { BuildError, findRelease, projectRoot, readReleases, supportedReleases } from '../../zfs-src/releases.ts';
import { skip } from '../skip.ts';

/** The releases whose sources can be had here: from a mirror, or because somebody brought them (ZFS_TREE). */
export function availableReleases(): string[] {
  const releases = readReleases();
  return supportedReleases(releases).filter((release) => {
    const isBrought = existsSync(join(projectRoot, 'zfs-src/upstream', release, 'META'));
    return isBrought || findRelease(releases, release).tarball !== undefined;
  });
}

const brought = new Map<string, Promise<string>>();

/** Unpacks a release unless it is there; returns its tree, relative to the project. Tests that ask at once share the work. */
export function bringSources(release: string): Promise<string> {
  const tree = brought.get(release) ?? unpackSources(release);
  brought.set(release, tree);
  return tree;
}

/** As bringSources. Skips the test, and resolves with undefined, where no mirror of this machine has another release than the default. */
export async function sourcesOrSkip(t: ExecutionContext, release: string): Promise<string | undefined> {
  try {
    return await bringSources(release);
  } catch (error) {
    const isMissing = error instanceof BuildError && error.message.startsWith('no copy of ');
    if (!isMissing || release === readReleases().default) throw error;
    skip(t, error.message);
    return undefined;
  }
}

async function unpackSources(release: string): Promise<string> {
  const tree = `zfs-src/upstream/${release}`;
  const places = defaultPlaces(projectRoot, undefined, new AbortController().signal);
  const patches = join(projectRoot, 'zfs-src/patches');
  await unpack(findRelease(readReleases(), release), release, join(projectRoot, tree), patches, places);
  return tree;
}

/** A directory that is gone after the test. */
export function temporaryFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-build-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A checkout with the build's own files and nothing else: no sources, no downloads, no outputs. */
export function bareProject(t: ExecutionContext): string {
  const root = join(temporaryFolder(t), 'project');
  mkdirSync(join(root, 'zfs-src'), { recursive: true });
  for (const file of globSync('zfs-src/*.{ts,json}', { cwd: projectRoot })) {
    cpSync(join(projectRoot, file), join(root, file));
  }
  for (const file of ['build.sh', 'package.json', 'package-lock.json']) {
    cpSync(join(projectRoot, file), join(root, basename(file)), { preserveTimestamps: true });
  }
  symlinkSync(join(projectRoot, 'node_modules'), join(root, 'node_modules'));
  symlinkSync(join(projectRoot, 'wasm'), join(root, 'wasm'));
  return root;
}
