// An unpacked OpenZFS release: its makefiles evaluated for a target.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Automake, type AutomakeSettings } from './automake.ts';
import { type Cpu, decideCondition, knownConditions } from './conditions.ts';
import { RecursiveAutomake } from './recursive.ts';

/** Where Debian installs OpenZFS; the programs look for compatibility files and scripts there. */
const INSTALLED = {
  libexecdir: '/usr/libexec',
  zfsexecdir: '/usr/libexec/zfs',
  runstatedir: '/run',
  sbindir: '/usr/sbin',
  sysconfdir: '/etc',
  pkgdatadir: '/usr/share/zfs',
};

export interface UpstreamOptions {
  readonly cpu: Cpu;
  /** Variables of upstream's makefiles that configure, or we, set. */
  readonly variables: Readonly<Record<string, string>>;
}

/** Upstream's libraries and programs as its makefiles describe them. */
export type Upstream = Pick<Automake, 'words' | 'target' | 'closure'>;

/** Where upstream's makefiles of user space begin; since 2.2 each includes those of its folders. */
const MAKEFILES = ['cmd/Makefile.am', 'lib/Makefile.am', 'tests/zfs-tests/cmd/Makefile.am'];

/** Evaluates upstream's makefiles. `tree` is where the release is unpacked, relative to `root`. */
export function readUpstream(root: string, tree: string, options: UpstreamOptions): Upstream {
  const decisions = new Map<string, boolean>();
  const settings: AutomakeSettings = {
    root: join(root, tree),
    files: ['config/Rules.am', ...MAKEFILES],
    conditions: knownConditions(options.cpu),
    decide: (condition) => {
      const value = decisions.get(condition) ?? decideCondition(root, tree, condition).value;
      decisions.set(condition, value);
      return value;
    },
    substitutions: { ac_system_l: 'linux' },
    variables: { ...INSTALLED, srcdir: tree, top_srcdir: tree, ...options.variables },
  };
  const isRecursive = /^SUBDIRS\b/m.test(readFileSync(join(root, tree, 'lib/Makefile.am'), 'utf8'));
  return isRecursive
    ? new RecursiveAutomake(settings, tree, ['cmd', 'lib', 'tests/zfs-tests/cmd'])
    : new Automake(settings);
}
