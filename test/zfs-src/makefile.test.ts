import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { writeMakefile } from '../../zfs-src/makefile.ts';
import type { Plan } from '../../zfs-src/plan.ts';
import { temporaryFolder } from './project.ts';

const SOURCES: Readonly<Record<string, string>> = {
  'src/main.c': '#include "value.h"\nint one(void);\nint main(void) { return one() - VALUE; }\n',
  'src/lib/one.c': 'int one(void) { return 1; }\n',
  'src/lib/two.c': 'int two(void) { return 2; }\n',
  'inc/value.h': '#define VALUE 1\n',
};

function plan(more: Partial<Plan> = {}, flags: readonly string[] = ['-O0', '-Iinc', '-DTEXT="a b"']): Plan {
  return {
    folder: 'out',
    prefixes: ['src/'],
    fingerprint: 'cc 1',
    headers: new Map([['gen/made.h', '#define MADE 1\n']]),
    groups: [
      { name: 'main', compiler: 'cc', sources: ['src/main.c'], flags },
      { name: 'lib', compiler: 'cc', sources: ['src/lib/one.c', 'src/lib/two.c'], flags },
    ],
    archives: [{ file: 'out/lib.a', archiver: 'ar', groups: ['lib'] }],
    links: [
      { file: 'out/program', linker: 'cc', flags: [], groups: ['main'], archives: ['out/lib.a'], trailing: ['-lm'] },
    ],
    ...more,
  };
}

function project(t: ExecutionContext): string {
  const root = temporaryFolder(t);
  for (const [name, text] of Object.entries(SOURCES)) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

function build(root: string, what = plan()): { status: number | null; output: string } {
  const makefile = writeMakefile(root, what);
  const result = spawnSync('make', ['-s', '-r', '-R', '-f', makefile], { cwd: root, encoding: 'utf8' });
  return { status: result.status, output: result.stdout + result.stderr };
}

const OBJECTS = ['out/obj/main/main.o', 'out/obj/lib/lib/one.o', 'out/obj/lib/lib/two.o'];

/** Runs `change`, builds, and returns which objects were compiled again. */
function rebuilt(root: string, change: () => Plan | undefined): string[] {
  // All in the past, so that whatever is written now is newer.
  const past = new Date(Date.now() - 60_000);
  for (const object of OBJECTS) utimesSync(join(root, object), past, past);
  for (const name of Object.keys(SOURCES)) utimesSync(join(root, name), new Date(0), new Date(0));
  for (const stamp of readdirSync(join(root, 'out/flags')))
    utimesSync(join(root, 'out/flags', stamp), new Date(0), new Date(0));
  const before = OBJECTS.map((object) => statSync(join(root, object)).mtimeMs);
  const { status, output } = build(root, change() ?? plan());
  if (status !== 0) throw new Error(output);
  return OBJECTS.filter((object, index) => statSync(join(root, object)).mtimeMs !== before[index]);
}

function touch(root: string, name: string): undefined {
  const now = new Date();
  utimesSync(join(root, name), now, now);
}

test('only what depends on a change is built again', (t) => {
  const root = project(t);
  t.is(build(root).status, 0);
  t.is(spawnSync(join(root, 'out/program')).status, 0);
  t.deepEqual(
    rebuilt(root, () => undefined),
    [],
  );
  t.deepEqual(
    rebuilt(root, () => touch(root, 'src/lib/two.c')),
    ['out/obj/lib/lib/two.o'],
  );
  t.deepEqual(
    rebuilt(root, () => touch(root, 'inc/value.h')),
    ['out/obj/main/main.o'],
  );
});

test('other flags, tools or headers on the path build everything again', (t) => {
  const root = project(t);
  build(root);
  t.deepEqual(
    rebuilt(root, () => plan({}, ['-O1', '-Iinc'])),
    OBJECTS,
  );
  build(root);
  t.deepEqual(
    rebuilt(root, () => plan({ fingerprint: 'cc 2' })),
    OBJECTS,
  );
});

test('nothing changed: make has nothing to say', (t) => {
  const root = project(t);
  t.is(build(root).output, 'out/program\n');
  t.is(build(root).output, '');
});

test('a source that is taken away leaves the archive', (t) => {
  const root = project(t);
  build(root);
  const members = (): string => spawnSync('ar', ['t', join(root, 'out/lib.a')], { encoding: 'utf8' }).stdout;
  t.is(members(), 'one.o\ntwo.o\n');
  const [main, lib] = plan().groups;
  t.is(build(root, plan({ groups: [main!, { ...lib!, sources: ['src/lib/one.c'] }] })).status, 0);
  t.is(members(), 'one.o\n');
});

test('a failed compile or link leaves no half-written file and keeps the compiler’s words', (t) => {
  const root = project(t);
  writeFileSync(join(root, 'src/main.c'), 'int main(void) { return missing(); }\n');
  const linking = build(root);
  t.not(linking.status, 0);
  t.regex(linking.output, /undefined reference to `missing'/);
  t.false(existsSync(join(root, 'out/program')));
  writeFileSync(join(root, 'src/main.c'), 'int main(void) { return }\n');
  const compiling = build(root);
  t.not(compiling.status, 0);
  t.regex(compiling.output, /src\/main\.c:1/);
  const left = readdirSync(join(root, 'out'), { recursive: true }).map(String);
  t.deepEqual(
    left.filter((name) => name.endsWith('.tmp')),
    [],
  );
});

test('words with spaces and quotes reach the compiler, generated headers are there', (t) => {
  const root = project(t);
  writeFileSync(
    join(root, 'src/main.c'),
    '#include <string.h>\n#include "gen/made.h"\nint main(void) { return strcmp(TEXT, "a b") || MADE != 1; }\n',
  );
  t.is(build(root, plan({}, ['-Iout', '-DTEXT="a b"'])).status, 0);
  t.is(spawnSync(join(root, 'out/program')).status, 0);
});

test('two sources with one object are refused', (t) => {
  const root = project(t);
  const groups = [{ name: 'main', compiler: 'cc', sources: ['src/main.c', 'src/main.S'], flags: [] }];
  t.throws(() => writeMakefile(root, plan({ groups, archives: [], links: [] })), { message: /same object file/ });
});

/** Each group with debug information, which names the folder it was made in. */
function placedPlan(): Plan {
  const placeFlags = ['"-fdebug-prefix-map=$(CURDIR)=."'];
  const { groups, ...rest } = plan({}, ['-O1', '-g', '-Iinc']);
  return { ...rest, groups: groups.map((group) => ({ ...group, placeFlags })) };
}

test('the same sources in another folder give the same bytes', (t) => {
  const outputs = [project(t), project(t)].map((root) => {
    t.is(build(root, placedPlan()).status, 0);
    const bytes = ['out/program', 'out/lib.a'].map((file) => readFileSync(join(root, file)));
    t.true(bytes.every((file) => !file.includes(root)));
    return bytes;
  });
  t.deepEqual(outputs[0], outputs[1]);
});

test('a checkout that moves keeps what it has built', (t) => {
  const root = project(t);
  t.is(build(root, placedPlan()).output, 'out/program\n');
  const moved = join(temporaryFolder(t), 'a place');
  renameSync(root, moved);
  t.is(build(moved, placedPlan()).output, '');
});
