import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { debianMirrors } from '../../zfs-src/mirrors.ts';

function mirrors(t: ExecutionContext, files: Record<string, string>): string[] {
  const etc = mkdtempSync(join(tmpdir(), 'zow-apt-'));
  t.teardown(() => rmSync(etc, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(etc, name)), { recursive: true });
    writeFileSync(join(etc, name), text);
  }
  return debianMirrors(etc);
}

test('one-line style: options, comments, security and other archives', (t) => {
  t.deepEqual(
    mirrors(t, {
      'sources.list': [
        '# deb http://commented/debian trixie main',
        'deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian/ trixie main contrib # why',
        'deb-src http://mirror.example/debian trixie main',
        'deb http://security.example/debian-security trixie-security main',
        'deb https://vendor.example/apt stable main',
      ].join('\n'),
    }),
    ['http://mirror.example/debian'],
  );
});

test('deb822 style: several URIs, disabled stanzas, comments within a stanza', (t) => {
  t.deepEqual(
    mirrors(t, {
      'sources.list.d/debian.sources': [
        'Types: deb',
        '# http://snapshot.example/archive',
        'URIs: http://one.example/debian',
        '  https://two.example/debian/',
        'Suites: bookworm bookworm-updates',
        'Components: main',
        '',
        'Enabled: no',
        'Types: deb',
        'URIs: http://disabled.example/debian',
        'Suites: bookworm',
        'Components: main',
      ].join('\n'),
      'sources.list.d/node.sources':
        'Types: deb\nURIs: https://node.example/node\nSuites: nodistro\nComponents: main\n',
      'sources.list.d/ignored.save': 'deb http://ignored.example/debian trixie main',
    }),
    ['http://one.example/debian', 'https://two.example/debian'],
  );
});

test('a mirror with a name of its own is known by its key, or taken when there is no other', (t) => {
  const own = 'Types: deb\nURIs: http://10.0.0.1/repository/trixie\nSuites: trixie\nComponents: main\n';
  const signed = `${own}Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n`;
  const vendor = 'deb https://vendor.example/apt stable main';
  t.deepEqual(mirrors(t, { 'sources.list.d/a.sources': signed, 'sources.list': vendor }), [
    'http://10.0.0.1/repository/trixie',
  ]);
  t.deepEqual(mirrors(t, { 'sources.list.d/a.sources': own }), ['http://10.0.0.1/repository/trixie']);
  t.deepEqual(mirrors(t, { 'sources.list': 'deb cdrom:[Debian]/ trixie main' }), []);
  t.deepEqual(mirrors(t, {}), []);
});
