// A tree of OpenZFS's sources: what it says of itself, what tells it from another, and how one that a user has becomes ours.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, globSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BuildError } from './releases.ts';

/** What upstream's META says. */
export interface Meta {
  /** `2.4.3`; upstream's own branch has 99 as its last part. */
  readonly version: string;
}

/** Reads META. Throws a BuildError when `tree` is none of OpenZFS; `name` is what the user knows it by. */
export function readMeta(tree: string, name = tree): Meta {
  let text: string;
  try {
    text = readFileSync(join(tree, 'META'), 'utf8');
  } catch {
    throw new BuildError(`${name}: not the sources of an OpenZFS release: there is no META in it`);
  }
  const version = /^Version:\s*(\S+)$/m.exec(text)?.[1];
  // The version names folders, and is compared with what others say.
  if (version === undefined || !/^\d+(\.\d+){1,3}$/.test(version)) {
    throw new BuildError(`${name}: its META has ${version === undefined ? 'no Version' : `Version: ${version}`}`);
  }
  return { version };
}

/** The version of the tree that a user has named by ZFS_TREE. */
export function userTreeVersion(tree: string): string {
  if (!existsSync(tree)) {
    throw new BuildError(`${tree}: not there (named by ZFS_TREE)`);
  }
  return readMeta(tree).version;
}

/** The folders that something is compiled from. What a tarball has besides its git tree is of other kinds or elsewhere. */
const COMPILED = '{cmd,config,include,lib,module,tests/zfs-tests/cmd}/**/*.{c,h,S,am}';
/** What upstream makes for a tarball, and `copyTree()` for a tree from git. */
const MADE = 'zfs_gitrev.h';

/**
 * What tells the sources of one release from another's, however they came, in hexadecimal: the digest of what `sha256sum` says of all
 * that is compiled, by name. A release's tarball, its tag in git and a configured checkout have the same.
 */
export function sourcesDigest(tree: string): string {
  const files = globSync(COMPILED, { cwd: tree }).filter((file) => {
    return basename(file) !== MADE && statSync(join(tree, file)).isFile();
  });
  const total = createHash('sha256');
  for (const file of files.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    const digest = createHash('sha256')
      .update(readFileSync(join(tree, file)))
      .digest('hex');
    total.update(`${digest}  ${file}\n`);
  }
  return total.digest('hex');
}

/** What is made by a build in the tree, or by git. */
const NOT_SOURCE = /^(\.git|\.libs|\.deps|autom4te\.cache)$|\.(o|lo|la|a|ko|cmd)$/;

/** Copies the sources in `from`, without what was built there, to the new folder `to`, and makes what a tarball has besides. */
export function copyTree(from: string, to: string): void {
  const version = userTreeVersion(from);
  cpSync(from, to, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => source === from || !NOT_SOURCE.test(basename(source)),
  });
  writeFileSync(join(to, 'include', MADE), `#define\tZFS_META_GITREV "zfs-${version}"\n`);
}
