import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FACTS, readFacts } from '../../zfs-src/facts.ts';
import { projectRoot, readReleases } from '../../zfs-src/releases.ts';
import { bringSources, sourcesOrSkip, temporaryFolder } from './project.ts';

test('our C asks only for facts that are looked for, and every one is asked for', (t) => {
  // The warnings of our C, of which wasm.ts decides.
  const asked = new Set<string>(['TREE_NVLIST_CONST']);
  for (const file of globSync('{wasm,cli/src,cli/native}/**/*.{c,h}', { cwd: projectRoot })) {
    for (const [name] of readFileSync(join(projectRoot, file), 'utf8').matchAll(/\bTREE_[A-Z_]+\b/g)) asked.add(name);
  }
  // A macro that nobody defines would be a fact that is never so, and no compiler says anything.
  t.deepEqual(
    [...asked].sort(),
    FACTS.map(({ name }) => name),
  );
});

test('no code of ours asks for the number of a release', (t) => {
  for (const file of globSync('{wasm,cli}/**/*.{c,h}', { cwd: projectRoot })) {
    t.notRegex(readFileSync(join(projectRoot, file), 'utf8'), /ZFS_META_VERSION_NUMBER/, file);
  }
});

test('what is so is read from declarations, not from comments, other systems or the kernel', (t) => {
  const tree = temporaryFolder(t);
  const write = (file: string, text: string): void => {
    mkdirSync(join(tree, file, '..'), { recursive: true });
    writeFileSync(join(tree, file), text);
  };
  write('include/sys/zil.h', '/* zil_write_state( */\nextern int __must_check\tzil_commit(zilog_t *, uint64_t);\n');
  write('include/os/freebsd/zfs/sys/x.h', 'uint64_t z_defaultuserquota;\n');
  write('include/os/linux/spl/sys/taskq.h', 'extern int taskq_cancel_id(taskq_t *, taskqid_t, boolean_t);\n');
  write('include/sys/vdev_impl.h', 'typedef int\tvdev_open_func_t(vdev_t *vd,\n    uint64_t *ashift, cred_t *cr);\n');
  write('module/zfs/zfs_znode.c', 'int\nzfs_get_zplprop(objset_t *os)\n{\n}\n');
  const facts = readFacts(tree);
  t.deepEqual(facts.names, ['TREE_VDEV_OPEN_CRED', 'TREE_ZIL_COMMIT_INT', 'TREE_ZPLPROP']);
  t.regex(facts.header, /^#define\tTREE_ZPLPROP\t1$/m);
  t.true(facts.has('TREE_ZPLPROP'));
  t.false(facts.has('TREE_DEFAULT_QUOTAS'));
});

test('two releases that are known to differ do', async (t) => {
  const now = readFacts(join(projectRoot, await bringSources(readReleases().default)));
  const older = await sourcesOrSkip(t, '2.1.11');
  if (older === undefined) return;
  const then = readFacts(join(projectRoot, older));
  t.true(now.has('TREE_ZPLPROP'));
  t.false(then.has('TREE_ZPLPROP'));
  t.true(then.has('TREE_ZVOL_OPS'));
  t.false(now.has('TREE_ZVOL_OPS'));
});
