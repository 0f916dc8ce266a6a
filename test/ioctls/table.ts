/**
 * docs/ioctls.md: every ioctl of the release, whether it works here, and a test that has made it succeed, or why it cannot. Made of
 * what the hosts of the tests have recorded (record.ts). test/run.ts checks it after a whole run; `node test/ioctls/table.ts` writes
 * it from the records of the last one.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoName } from '../../host/errno.ts';
import { type Ioctl, readIoctls } from '../../zfs-src/ioctls.ts';
import { readReleases } from '../../zfs-src/releases.ts';
import { type IoctlRecords, readRecords, root } from './record.ts';
import { unavailable } from './unavailable.ts';

const document = join(root, 'docs/ioctls.md');

export interface Row {
  readonly ioctl: Ioctl;
  /** Test files in which it succeeded, or failed with the errno it has to fail with; the one where it did so most often is first. */
  readonly files: readonly string[];
  /** Why it cannot succeed, if so. */
  readonly reason?: string;
}

/** What the records say about each ioctl. */
export function rows(ioctls: readonly Ioctl[], records: IoctlRecords): Row[] {
  return ioctls.map((ioctl) => {
    const excuse = [ioctl.name, ...ioctl.aliases].map((name) => unavailable[name]).find((found) => found !== undefined);
    const wanted = errnoName(excuse?.errno ?? 0);
    const request = `0x${ioctl.request.toString(16)}`;
    const counts = [...records].flatMap(([file, outcomes]) => {
      const count = outcomes[request]?.[wanted];
      return count === undefined ? [] : [{ file, count }];
    });
    const files = counts.sort((a, b) => b.count - a.count).map(({ file }) => file);
    return { ioctl, files, ...(excuse && { reason: `${wanted}: ${excuse.reason}` }) };
  });
}

/** The document. Where the one that is there names a test that still exercises an ioctl, that is kept. */
export function format(release: string, table: readonly Row[], before: string): string {
  const lines = table.map(({ ioctl, files, reason }) => {
    const names = [ioctl.name, ...ioctl.aliases].map((name) => `\`${name}\``).join(', ');
    const named = namedTest(before, ioctl);
    const test = named !== undefined && files.includes(named) ? named : (files[0] ?? 'none');
    return `| 0x${ioctl.request.toString(16)} | ${names} | ${reason === undefined ? 'works' : reason} | ${test} |`;
  });
  const missing = table.filter(({ reason }) => reason !== undefined).length;
  return `# ioctls

All ioctls that OpenZFS ${release} numbers in \`zfs_ioc_t\`, each with a test that exercises it. ${table.length - missing} of ${table.length} work; the others fail
with the errno that is named. Each goes to upstream's own dispatch, \`zfsdev_ioctl_common\`; none is re-implemented. What the header
has beside these (\`ZFS_IOC_GETDOSFLAGS\`, \`ZFS_IOC_SETDOSFLAGS\`, \`ZFS_IOC_REWRITE\`) is called on a file of a mounted filesystem, not
on \`/dev/zfs\`.

This file is made by \`node test/ioctls/table.ts\` from what the tests have recorded, and checked by \`make test\`.

| number | name | status | test |
|---|---|---|---|
${lines.join('\n')}
`;
}

function namedTest(text: string, { request }: Ioctl): string | undefined {
  return new RegExp(`^\\| 0x${request.toString(16)} \\|.*\\| (\\S+) \\|$`, 'm').exec(text)?.[1];
}

/** What is wrong: ioctls without a test, and a document that is not what the records say. Empty when all is well. */
export function problems(table: readonly Row[], written: string, release: string): string[] {
  const untested = table
    .filter(({ files }) => files.length === 0)
    .map(({ ioctl, reason }) => {
      const wanted = reason === undefined ? 'succeed' : `fail with ${reason}`;
      return `${ioctl.name}: no test has made it ${wanted}`;
    });
  if (untested.length > 0 || format(release, table, written) === written) return untested;
  return ['docs/ioctls.md is not what the tests have recorded; node test/ioctls/table.ts writes it'];
}

/** Checks the document against the records of a whole run. */
export function checkTable(): string[] {
  const { default: release } = readReleases();
  const table = rows(readIoctls(join(root, 'zfs-src/upstream', release)), readRecords());
  return problems(table, existsSync(document) ? readFileSync(document, 'utf8') : '', release);
}

if (import.meta.main) {
  const { default: release } = readReleases();
  const table = rows(readIoctls(join(root, 'zfs-src/upstream', release)), readRecords());
  const before = existsSync(document) ? readFileSync(document, 'utf8') : '';
  const text = format(release, table, before);
  writeFileSync(document, text);
  for (const problem of problems(table, text, release)) {
    process.stderr.write(`${problem}\n`);
    process.exitCode = 1;
  }
}
