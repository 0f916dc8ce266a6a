import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { PROGRAMS } from '../cli/programs.ts';
import { zowCommand } from '../cli/zow.ts';
import packageJson from '../package.json' with { type: 'json' };
import { bashCompletion, fishCompletion, zshCompletion } from './completion.ts';
import { licences } from './licences.ts';
import { configPage, zowPage } from './man.ts';
import { run } from './run.ts';

const SOURCES = 'packaging/debian';
const SUMMARY = 'ZFS on WebAssembly: pools and volumes from one process, without a kernel module';

/** What the executable is linked with; Node is made for glibc 2.28. */
const DEPENDS = 'libc6 (>= 2.28), libstdc++6 (>= 8), libgcc-s1, libatomic1, systemd | systemd-sysusers | adduser';

/** Makes a Debian package of the one executable file; the path of the package. */
export function makeDeb(executable: string, folder: string): string {
  const { version } = packageJson;
  const architecture = run('dpkg', ['--print-architecture']).trim();
  const root = join(folder, 'root');
  rmSync(root, { recursive: true, force: true });
  const put = (path: string, content: string | Uint8Array, mode = 0o644) => {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    chmodSync(file, mode);
  };
  // No umask of whoever builds it decides about folders.
  const mask = process.umask(0o022);
  try {
    const table = () => zowCommand(() => Promise.resolve());
    const gzip = (text: string) => gzipSync(text, { level: 9 });
    mkdirSync(join(root, 'usr/bin'), { recursive: true });
    copyFileSync(executable, join(root, 'usr/bin/zow'));
    chmodSync(join(root, 'usr/bin/zow'), 0o755);
    // Not in /usr/sbin: there they would be zfsutils-linux's.
    mkdirSync(join(root, 'usr/lib/zow/bin'), { recursive: true });
    for (const name of Object.keys(PROGRAMS)) symlinkSync('../../../bin/zow', join(root, 'usr/lib/zow/bin', name));
    put('usr/lib/systemd/system/zow.service', readFileSync(`${SOURCES}/zow.service`));
    put('usr/lib/sysusers.d/zow.conf', readFileSync(`${SOURCES}/sysusers.conf`));
    put('etc/zow/zow.yaml', readFileSync(`${SOURCES}/zow.yaml`));
    put('usr/share/man/man8/zow.8.gz', gzip(zowPage(table(), version)));
    put('usr/share/man/man5/zow.yaml.5.gz', gzip(configPage(version)));
    put('usr/share/bash-completion/completions/zow', bashCompletion(table()));
    put('usr/share/zsh/vendor-completions/_zow', zshCompletion(table()));
    put('usr/share/fish/vendor_completions.d/zow.fish', fishCompletion(table()));
    const doc = 'usr/share/doc/zow';
    put(`${doc}/copyright`, licences());
    put(`${doc}/changelog.gz`, gzip(`zow (${version})\n`));
    put(`${doc}/README.md`, readFileSync('README.md'));
    for (const name of ['docs', 'examples/pool.yaml', 'examples/monitoring'])
      cpSync(name, join(root, doc, name), { recursive: true });
    put(`${doc}/schema.json`, readFileSync('host/config/schema.json'));

    const files = globSync('**', { cwd: root, withFileTypes: true }).filter((entry) => entry.isFile());
    const paths = files.map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)).sort();
    const sums = paths.map(
      (path) =>
        `${createHash('md5')
          .update(readFileSync(join(root, path)))
          .digest('hex')}  ${path}\n`,
    );
    const bytes = paths.reduce((sum, path) => sum + statSync(join(root, path)).size, 0);
    put('DEBIAN/md5sums', sums.join(''));
    put('DEBIAN/conffiles', '/etc/zow/zow.yaml\n');
    for (const script of ['postinst', 'prerm', 'postrm'])
      put(`DEBIAN/${script}`, readFileSync(`${SOURCES}/${script}`), 0o755);
    put(
      'DEBIAN/control',
      `Package: zow
Version: ${version}
Architecture: ${architecture}
Maintainer: The ZoW project <zow@localhost>
Installed-Size: ${Math.ceil(bytes / 1024)}
Depends: ${DEPENDS}
Section: admin
Priority: optional
Description: ${SUMMARY}
 OpenZFS's own storage engine, compiled to WebAssembly. Pools live on files, block
 devices or disks that an NBD server exports; the real zpool and zfs manage them
 over a unix socket; volumes are served as block devices over NBD and iSCSI.
`,
    );
  } finally {
    process.umask(mask);
  }
  const output = join(folder, `zow_${version}_${architecture}.deb`);
  // zstd: a fifth larger than with xz, and made in seconds; dpkg knows it since Debian 12.
  run('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z10', '--build', root, output]);
  rmSync(root, { recursive: true });
  return output;
}
