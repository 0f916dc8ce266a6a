import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Automake } from '../../zfs-src/automake.ts';
import { decideCondition } from '../../zfs-src/conditions.ts';
import { RecursiveAutomake } from '../../zfs-src/recursive.ts';
import { BuildError, projectRoot } from '../../zfs-src/releases.ts';
import { CORE, MACHINE_CODE, NATIVE_PROGRAMS, WASM_PROGRAMS } from '../../zfs-src/units.ts';
import { readUpstream } from '../../zfs-src/upstream.ts';
import { skip } from '../skip.ts';
import { availableReleases, sourcesOrSkip } from './project.ts';

const RELEASES = availableReleases();

function parse(t: ExecutionContext, files: Record<string, string>, conditions: Record<string, boolean> = {}): Automake {
  const root = mkdtempSync(join(tmpdir(), 'zow-automake-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return new Automake({
    root,
    files: ['lib/Makefile.am'],
    conditions,
    substitutions: { system: 'linux' },
    variables: { srcdir: 'S', FORCED: 'ours' },
  });
}

test('assignments, continuations, comments and references', (t) => {
  const automake = parse(t, {
    'lib/Makefile.am': [
      '# A comment = not an assignment',
      'A = one \\',
      '\ttwo \\',
      '    three',
      'A += four',
      'B = $(A) five $(UNKNOWN)',
      'FORCED = theirs',
      'FORCED += theirs',
      'C = $(FORCED) @system@ @other@',
      'rule: dependency',
      '\tA = a recipe',
    ].join('\n'),
  });
  t.deepEqual(automake.words('A'), ['one', 'two', 'three', 'four']);
  t.deepEqual(automake.words('B'), ['one', 'two', 'three', 'four', 'five']);
  t.deepEqual(automake.words('C'), ['ours', 'linux', '@other@']);
});

test('conditions choose branches, also nested and negated', (t) => {
  const text = ['if X', 'A = x', 'if !Y', 'A += not-y', 'else', 'A += y', 'endif', 'else', 'A = no-x', 'endif'].join(
    '\n',
  );
  const words = (X: boolean, Y: boolean): string[] => parse(t, { 'lib/Makefile.am': text }, { X, Y }).words('A');
  t.deepEqual(words(true, true), ['x', 'y']);
  t.deepEqual(words(true, false), ['x', 'not-y']);
  t.deepEqual(words(false, true), ['no-x']);
});

test('a condition that is not known is what configure decides by itself, or false', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'zow-conditions-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'tree/config'), { recursive: true });
  writeFileSync(join(root, 'tree/configure.ac'), 'AM_CONDITIONAL([HAVE_TOOL], [test "x$TOOL" = "xyes"])\n');
  writeFileSync(
    join(root, 'tree/config/options.m4'),
    [
      'AC_ARG_ENABLE([on], [help], [enable_on=$enableval],\n\t\t[enable_on=yes])',
      'AM_CONDITIONAL([ON_ENABLED], [test "x$enable_on" = "xyes"])',
      'AC_ARG_ENABLE([off], [help], [], [enable_off=no])',
      'AM_CONDITIONAL([OFF_ENABLED], [test x$enable_off = xyes])',
    ].join('\n'),
  );
  const decide = (condition: string): boolean => decideCondition(root, 'tree', condition).value;
  t.true(decide('ON_ENABLED'));
  t.false(decide('OFF_ENABLED'));
  t.false(decide('HAVE_TOOL'));
  t.false(decide('NOWHERE'));
  t.regex(
    decideCondition(root, 'tree', 'ON_ENABLED').why,
    /^config\/options\.m4: \$enable_on is yes unless turned off$/,
  );
});

test('a makefile in each folder: libraries by their file, sources by VPATH, flags with the default ones', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'zow-recursive-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const files: Record<string, string> = {
    'config/Rules.am': 'DEFAULT_INCLUDES = -I$(top_srcdir)/include\nAM_CPPFLAGS = -DALL',
    'lib/Makefile.am': 'SUBDIRS = libx',
    'lib/libx/Makefile.am': [
      'include $(top_srcdir)/config/Rules.am',
      'VPATH = $(top_srcdir)/module/x $(top_srcdir)/lib/libx',
      'DEFAULT_INCLUDES += -I$(srcdir)',
      'dist_libx_la_SOURCES = user.c',
      'nodist_libx_la_SOURCES = kernel.c',
      'libx_la_LIBADD = $(abs_top_builddir)/lib/libx/liby.la -lm',
      'liby_la_SOURCES = y.c',
    ].join('\n'),
    'lib/libx/user.c': '',
    'lib/libx/y.c': '',
    'module/x/kernel.c': '',
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const settings = { root, files: [], conditions: {}, substitutions: {}, variables: { srcdir: 'T', top_srcdir: 'T' } };
  const makefiles = new RecursiveAutomake(settings, 'T', ['lib']);
  t.deepEqual(makefiles.target('libx'), {
    name: 'libx',
    sources: ['lib/libx/user.c', 'module/x/kernel.c'],
    libraries: ['liby'],
    systemLibraries: ['-lm'],
    flags: ['-IT/include', '-IT/lib/libx', '-DALL'],
  });
  t.deepEqual(makefiles.closure(['libx']), ['libx', 'liby']);
  t.throws(() => makefiles.target('libz'), { message: /no library or program libz/ });
  rmSync(join(root, 'module/x/kernel.c'));
  t.throws(() => makefiles.target('libx'), { message: /^lib\/libx\/Makefile\.am: no kernel\.c in any of/ });
});

test('a target has its C files, libraries and flags; %D% is the directory of the file it stands in', (t) => {
  const automake = parse(t, {
    'lib/Makefile.am': 'AM_CFLAGS = -std=gnu99 -Wall\ninclude $(srcdir)/%D%/liba/Makefile.am\n',
    'lib/liba/Makefile.am': [
      'liba_la_CPPFLAGS = -I$(srcdir)/%D% -DNAME=\\"a\\"',
      'dist_liba_la_SOURCES = %D%/a.c %D%/a.h',
      'nodist_liba_la_SOURCES = module/b.c asm.S',
      'liba_la_LIBADD = libb.la -lm',
      'libb_la_SOURCES = %D%/b.c',
      'my_tool_SOURCES = t.c',
      'my_tool_LDADD = liba.la',
    ].join('\n'),
  });
  t.deepEqual(automake.target('liba'), {
    name: 'liba',
    sources: ['lib/liba/a.c', 'module/b.c', 'asm.S'],
    libraries: ['libb'],
    systemLibraries: ['-lm'],
    flags: ['-IS/lib/liba', '-DNAME="a"', '-std=gnu99'],
  });
  t.deepEqual(automake.closure(['my.tool']), ['my.tool', 'liba', 'libb']);
});

test('what is not understood is an error that says where', (t) => {
  const failure = (text: string, conditions = {}): string =>
    t.throws(() => parse(t, { 'lib/Makefile.am': text }, conditions), { instanceOf: BuildError }).message;
  t.is(failure('A = 1\nif NEW_CONDITION\nendif'), 'lib/Makefile.am:2: unknown condition NEW_CONDITION');
  t.is(failure('if X', { X: true }), 'lib/Makefile.am: an "if" without "endif"');
  t.is(failure('endif'), 'lib/Makefile.am:1: "endif" without "if"');
  t.is(
    failure('include $(srcdir)/%D%/gone/Makefile.am'),
    'lib/gone/Makefile.am: not in the source tree of this release',
  );
  t.regex(failure('include $(srcdir)/%D%/Makefile.am'), /included too deeply/);
  const cyclic = parse(t, { 'lib/Makefile.am': 'A = $(B)\nB = $(A)\nx_SOURCES = x.c\nx_LDADD = x.la' });
  t.throws(() => cyclic.words('A'), { message: /refers to itself/ });
  t.throws(() => cyclic.closure(['x']), { message: /depend on each other: x → x/ });
  t.throws(() => cyclic.target('liby'), { message: /no library or program liby/ });
});

/** Upstream's generated makefiles: one since 2.2, one in each folder before; none in a tree from git. */
function generated(tree: string): string[] {
  const isOne = existsSync(join(tree, 'Makefile.in')) && !existsSync(join(tree, 'lib/Makefile.in'));
  return isOne ? ['Makefile.in'] : globSync('{cmd,lib}/*/Makefile.in', { cwd: tree });
}

/** Sources of a target as automake itself worked them out, as the generated makefile has them. */
function sourcesByAutomake(tree: string, files: readonly string[], key: string): Set<string> {
  const text = files
    .map((file) => readFileSync(join(tree, file), 'utf8'))
    .join('\n')
    .replaceAll('@CONFIG_USER_TRUE@', '')
    .replaceAll(/\\\n/g, ' ');
  const assigned = (name: string): string[] => {
    const value = new RegExp(`^${name} = (.*)$`, 'm').exec(text)?.[1] ?? '';
    return value.split(/\s+/);
  };
  // Until 2.1 a list is of references to others, whose names other makefiles have too: those are compared by the test of what exists.
  return new Set(
    ['', 'dist_', 'nodist_']
      .flatMap((prefix) => assigned(`${prefix}${key}_SOURCES`))
      .filter((word) => word.endsWith('.c')),
  );
}

for (const release of RELEASES) {
  test(`${release}: the derivation agrees with automake's own`, async (t) => {
    const tree = await sourcesOrSkip(t, release);
    if (tree === undefined) return;
    const upstream = readUpstream(projectRoot, tree, { cpu: 'none', variables: {} });
    const files = generated(join(projectRoot, tree));
    if (files.length === 0) return skip(t, 'a tree from git: nothing is generated');
    // Targets without conditionals: there automake's output is the plain list.
    for (const [name, key] of [
      ['libzpool', 'libzpool_la'],
      ['libzstd', 'libzstd_la'],
      ['libnvpair', 'libnvpair_la'],
      ['zdb', 'zdb'],
      ['zfs', 'zfs'],
      ['zstream', 'zstream'],
      ['ztest', 'ztest'],
    ] as const) {
      const expected = sourcesByAutomake(join(projectRoot, tree), files, key);
      if (files.length === 1) {
        t.true(expected.size > 0, name);
        t.deepEqual(new Set(upstream.target(name).sources), expected, name);
      } else {
        // A makefile of its own names files of its own folder, or by a variable.
        const names = new Set(upstream.target(name).sources.map((source) => basename(source)));
        t.true(names.size > 0, name);
        for (const source of expected) t.true(names.has(basename(source)), `${name}: ${source}`);
      }
    }
  });

  test(`${release}: everything that is derived exists, and assembler only on a CPU that has it`, async (t) => {
    const tree = await sourcesOrSkip(t, release);
    if (tree === undefined) return;
    const wasm = readUpstream(projectRoot, tree, { cpu: 'none', variables: {} });
    const native = readUpstream(projectRoot, tree, { cpu: 'x64', variables: {} });
    const names = wasm.closure([...new Set([...WASM_PROGRAMS, ...NATIVE_PROGRAMS])]);
    t.true(names.length > 20);
    for (const name of names) {
      for (const source of wasm.target(name).sources) {
        t.notThrows(() => readFileSync(join(projectRoot, tree, source)), source);
        t.false(source.endsWith('.S'), source);
        t.false(source.includes('freebsd'), source);
      }
    }
    t.true(native.target('libicp').sources.some((source) => source.endsWith('aes_amd64.S')));
  });

  test(`${release}: the core has no file of one CPU, and none that is under the GPL alone`, async (t) => {
    const tree = await sourcesOrSkip(t, release);
    if (tree === undefined) return;
    const upstream = readUpstream(projectRoot, tree, { cpu: 'none', variables: {} });
    const sources = CORE.upstream.flatMap((name) => upstream.target(name).sources).concat(CORE.extra);
    const kept = sources.filter((source) => !MACHINE_CODE.test(source));
    t.true(kept.includes('module/zcommon/zfs_fletcher.c'));
    t.true(kept.includes('module/zfs/vdev_raidz_math_scalar.c'));
    for (const source of kept) {
      const text = readFileSync(join(projectRoot, tree, source), 'utf8').slice(0, 4000);
      t.false(/neon|avx|sse[23]|altivec/.test(source), source);
      t.false(/SPDX-License-Identifier: GPL/.test(text), source);
    }
  });
}
