// The pinned sources: which OpenZFS releases ZoW builds, and the libc under them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A source tarball as Debian's pool holds it. */
export interface Source {
  /** File name of the tarball. */
  readonly tarball: string;
  /** Directory below the root of a Debian mirror. */
  readonly pool: string;
  /** Lower-case hexadecimal digest of the tarball. */
  readonly sha256: string;
}

/** An OpenZFS release. One without a tarball is in no Debian mirror: ZFS_TARBALL or ZFS_TREE brings it. */
export interface Release extends Partial<Source> {
  /** What its sources are told by, whatever they came in (`sourcesDigest()`). */
  readonly sources: string;
}

export interface Releases {
  /** The release that is built when none is named. */
  readonly default: string;
  readonly releases: Readonly<Record<string, Release>>;
  /** wasi-libc's source: musl and dlmalloc are taken from it. */
  readonly libc: Source;
}

/** An error whose message is all that a user needs to see. */
export class BuildError extends Error {}

/** Whether what a command printed says that the disk is full; tar says it in words of its own. */
export function saysDiskFull(output: string): boolean {
  return /No space left on device|: Wrote only \d+ of \d+ bytes/.test(output);
}

export const DISK_FULL = 'the disk is full: nothing half-written was kept; free some space and run it again';

export const projectRoot = join(import.meta.dirname, '..');

/** Reads `zfs-src/releases.json`. */
export function readReleases(file = join(import.meta.dirname, 'releases.json')): Releases {
  return JSON.parse(readFileSync(file, 'utf8')) as Releases;
}

/** The supported releases, the newest first. */
export function supportedReleases(releases: Releases): string[] {
  return Object.keys(releases.releases).sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

/** The source of `release`. Throws a BuildError that lists what is supported. */
export function findRelease(releases: Releases, release: string): Release {
  const source = releases.releases[release];
  if (source === undefined) {
    const known = supportedReleases(releases).join(', ');
    throw new BuildError(`release ${release} is not supported; supported: ${known}`);
  }
  return source;
}
