// Brings a pinned source tarball, verifies it, and unpacks it below zfs-src/upstream/.
import { createHash } from 'node:crypto';
import {
  accessSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { debianMirrors } from './mirrors.ts';
import { patchesFor } from './patches.ts';
import { BuildError, DISK_FULL, type Release, type Source, saysDiskFull } from './releases.ts';
import { run } from './run.ts';
import { copyTree, readMeta, sourcesDigest, userTreeVersion } from './tree.ts';

/** Where a fetch looks and writes; tests point it elsewhere. */
export interface FetchPlaces {
  /** A file the user names instead of all other places. */
  readonly override?: string | undefined;
  /** Verified tarballs are kept here. */
  readonly cache: string;
  /** Base URIs of Debian mirrors, asked in order. */
  readonly mirrors: readonly string[];
  /** Directories that may hold the tarball, tried last. */
  readonly fallbacks: readonly string[];
  /** Downloads `url` to `file`; resolves to undefined, or to why it could not. Rejects when `signal` aborts. */
  readonly download: (url: string, file: string, signal: AbortSignal) => Promise<string | undefined>;
  /** Aborts whatever is under way; nothing half-done stays. */
  readonly signal: AbortSignal;
  /** Progress, one line each. */
  readonly say: (line: string) => void;
}

const HASH_CHUNK_BYTES = 1 << 20;
const APT_HELPER = '/usr/lib/apt/apt-helper';
const STAMP = '.zow-source';

/** The places of a checkout at `root`. */
export function defaultPlaces(root: string, override: string | undefined, signal: AbortSignal): FetchPlaces {
  return {
    override: override === '' ? undefined : override,
    cache: join(root, 'zfs-src', 'cache'),
    mirrors: debianMirrors(),
    fallbacks: [join(root, '..', 'shared', 'upstream')],
    download: aptDownload,
    signal,
    say: (line) => process.stderr.write(`${line}\n`),
  };
}

/** SHA-256 of a file, in hexadecimal. */
export function sha256File(file: string): string {
  const hash = createHash('sha256');
  const chunk = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
  const fd = openSync(file, 'r');
  try {
    for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk)) {
      hash.update(chunk.subarray(0, length));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

/** Downloads with apt's own downloader, which honours the machine's proxy and certificate settings. */
async function aptDownload(url: string, file: string, signal: AbortSignal): Promise<string | undefined> {
  if (!existsSync(APT_HELPER)) {
    return `${APT_HELPER} is not there`;
  }
  const options = ['-o', 'Acquire::http::Timeout=20', '-o', 'Acquire::https::Timeout=20', '-o', 'Acquire::Retries=1'];
  const result = await run(APT_HELPER, [...options, 'download-file', url, file], { signal });
  if (result.status === 0) {
    return undefined;
  }
  const reasons = result.output.split('\n').filter((line) => /^(E|Err)[: ]/.test(line));
  return reasons.at(-1)?.replace(/^E: /, '') ?? 'download failed';
}

function verify(file: string, source: Source, name: string): void {
  const found = sha256File(file);
  if (found !== source.sha256) {
    throw new BuildError(`${name}: wrong checksum: sha256 is ${found}, expected ${source.sha256}`);
  }
}

/** Puts a tarball into the cache: written under a temporary name, verified, then renamed. */
async function intoCache(
  places: FetchPlaces,
  source: Source,
  write: (temporary: string) => Promise<string | undefined>,
): Promise<string | undefined> {
  const target = join(places.cache, source.tarball);
  const temporary = `${target}.part-${process.pid}`;
  mkdirSync(places.cache, { recursive: true });
  try {
    const failure = await write(temporary);
    if (failure !== undefined) {
      return failure;
    }
    verify(temporary, source, source.tarball);
    renameSync(temporary, target);
    return undefined;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/**
 * Returns the path of a verified tarball of `source`. Tried in order: the override, the cache, the mirrors, the fallback
 * directories; what is found outside goes into the cache. A wrong checksum anywhere is an error, never a reason to look further.
 */
export async function fetchTarball(source: Source, places: FetchPlaces): Promise<string> {
  if (places.override !== undefined) {
    if (!isReadable(places.override)) {
      throw new BuildError(`${places.override}: cannot be read (named instead of ${source.tarball})`);
    }
    verify(places.override, source, places.override);
    return places.override;
  }
  sweepPartials(places.cache);
  const cached = join(places.cache, source.tarball);
  if (existsSync(cached)) {
    verify(cached, source, cached);
    return cached;
  }
  const tried: string[] = [`${cached}: not there`];
  for (const mirror of places.mirrors) {
    const url = `${mirror}/${source.pool}/${source.tarball}`;
    places.say(`fetching ${url}`);
    const failure = await intoCache(places, source, (temporary) => places.download(url, temporary, places.signal));
    if (failure === undefined) {
      return cached;
    }
    tried.push(`${url}: ${failure}`);
  }
  for (const folder of places.fallbacks) {
    const file = join(folder, source.tarball);
    if (!isReadable(file)) {
      tried.push(`${file}: not there`);
      continue;
    }
    places.say(`taking ${source.tarball} from ${folder}`);
    await intoCache(places, source, async (temporary) => {
      copyFileSync(file, temporary);
      return undefined;
    });
    return cached;
  }
  throw new BuildError(`no copy of ${source.tarball} found; tried ${tried.join('; ')}`);
}

function isReadable(file: string): boolean {
  try {
    accessSync(file);
    return true;
  } catch {
    return false;
  }
}

/** Removes what an interrupted download or unpacking of an earlier process left behind. */
function sweepPartials(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const pid = /\.part-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}

/** Whether `release` says where its tarball is. */
function hasTarball(release: Partial<Source>): release is Source {
  return release.tarball !== undefined && release.pool !== undefined && release.sha256 !== undefined;
}

/** The tarball of `release`, which only a user may have. */
async function findTarball(release: Source | Release, name: string, places: FetchPlaces): Promise<string> {
  if (hasTarball(release)) {
    return fetchTarball(release, places);
  }
  if (places.override === undefined) {
    throw new BuildError(
      `no Debian mirror has OpenZFS ${name}: name its tarball with ZFS_TARBALL=, or with ZFS_TREE= a checkout of its tag zfs-${name}`,
    );
  }
  if (!isReadable(places.override)) {
    throw new BuildError(`${places.override}: cannot be read (named as the tarball of OpenZFS ${name})`);
  }
  return places.override;
}

/**
 * Makes the new folder `target` by `fill`, with the patches of `release` applied: it appears under its name only when it is complete, and
 * has what `release` says of its sources. `origin` is where they come from, in messages.
 */
async function makeTree(
  target: string,
  release: Partial<Release>,
  patches: readonly string[],
  stamp: string,
  origin: string,
  places: FetchPlaces,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  const parent = join(target, '..');
  mkdirSync(parent, { recursive: true });
  sweepPartials(parent);
  const temporary = join(parent, `${basename(target)}.part-${process.pid}`);
  try {
    await fill(temporary);
    if (release.sources !== undefined) {
      const { version } = readMeta(temporary, origin);
      if (version !== basename(target)) {
        throw new BuildError(`${origin}: OpenZFS ${version}, not ${basename(target)}`);
      }
      const found = sourcesDigest(temporary);
      if (found !== release.sources) {
        throw new BuildError(
          `${origin}: not the sources of OpenZFS ${basename(target)}: their digest is ${found}, expected ${release.sources}; changed ones need a Version of their own in META`,
        );
      }
    }
    for (const patch of patches) {
      places.say(`applying ${basename(patch)}`);
      await need('patch', ['-d', temporary, '-p1', '-s', '-f', '-i', patch], places.signal);
    }
    writeFileSync(join(temporary, STAMP), stamp);
    rmSync(target, { recursive: true, force: true });
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** What the stamp of a tree is: where it came from, and the patches. */
function stampOf(origin: string, patches: readonly string[]): string {
  const digest = createHash('sha256').update(origin);
  for (const patch of patches) {
    digest.update(readFileSync(patch));
  }
  return `${digest.digest('hex')}\n`;
}

/**
 * Makes sure that `target` is the unpacked, patched tree of `source`, and returns whether it had to be made. The tree appears
 * under its name only when it is complete. `name` selects the patches.
 */
export async function unpack(
  source: Source | Release,
  name: string,
  target: string,
  patchFolder: string,
  places: FetchPlaces,
): Promise<boolean> {
  const patches = patchesFor(patchFolder, name);
  // A tree that came another way has the stamp of its sources.
  const stamps = [source.sha256, 'sources' in source ? source.sources : undefined]
    .filter((origin) => origin !== undefined)
    .map((origin) => stampOf(origin, patches));
  const isMade = (): boolean => stamps.includes(readStamp(target) ?? '');
  if (places.override === undefined && isMade()) {
    return false;
  }
  const tarball = await findTarball(source, name, places);
  if (isMade()) {
    return false;
  }
  places.say(`unpacking ${basename(tarball)}`);
  await makeTree(target, source, patches, stamps[0]!, tarball, places, async (folder) => {
    mkdirSync(folder);
    const options = ['--strip-components=1', '--no-same-owner', '--no-same-permissions'];
    await need('tar', ['-xf', tarball, '-C', folder, ...options], places.signal, tarball);
  });
  return true;
}

/**
 * Makes `target` the patched tree of the sources in the folder `from`, and returns whether it had to be made. `release` is what is known
 * of a release of that version; nothing, of one that is not listed.
 */
export async function adoptTree(
  from: string,
  release: Release | undefined,
  name: string,
  target: string,
  patchFolder: string,
  places: FetchPlaces,
): Promise<boolean> {
  const patches = patchesFor(patchFolder, name);
  const version = userTreeVersion(from);
  if (version !== name) {
    throw new BuildError(`${from}: OpenZFS ${version}, not ${name}`);
  }
  const sources = sourcesDigest(from);
  const stamp = stampOf(sources, patches);
  if (readStamp(target) === stamp) {
    return false;
  }
  places.say(`taking OpenZFS ${name} from ${from}`);
  // The copy is what is checked: the original may be edited meanwhile.
  await makeTree(target, release ?? { sources }, patches, stamp, from, places, async (folder) =>
    copyTree(from, folder),
  );
  return true;
}

function readStamp(tree: string): string | undefined {
  try {
    return readFileSync(join(tree, STAMP), 'utf8');
  } catch {
    return undefined;
  }
}

/** Runs a command. `subject`: the file of the user's that it works on. */
async function need(command: string, args: readonly string[], signal: AbortSignal, subject?: string): Promise<void> {
  const result = await run(command, args, { signal });
  if (saysDiskFull(result.output)) {
    throw new BuildError(DISK_FULL);
  }
  if (result.status !== 0) {
    const failure = `${command} failed: ${result.output.trim().split('\n')[0]}`;
    throw new BuildError(subject === undefined ? failure : `${subject}: ${failure}`);
  }
}
