import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { configFromObject, loadConfig, parseConfig } from '../../../host/config/load.ts';
import { ConfigError } from '../../../host/config/problem.ts';

const FILE = '/srv/zow/pool.yaml';

function parse(text: string) {
  return parseConfig(FILE, Buffer.from(text), { defaultSocket: '/run/zow/zow.sock' });
}

const GOOD = `socket: run/zow.sock
memory: 2G                      # of the wasm instance
pools:
  tank:
    vdevs: [mirror, disks/a.img, /dev/sdb]
    create: { size: 4G }
    properties: { ashift: 12 }
    volumes:
      vm0: { size: 1G, volblocksize: 16K, compression: lz4 }
      vms/web: { size: 1.5G, sparse: true, com.example:owner: me }
nbd:
  - unix: run/nbd.sock
  - tcp: 127.0.0.1:10809
  - { tcp: '[::1]:0' }
  - { tcp: '192.0.2.1:10809', allow_remote: true }
`;

test('a whole configuration: paths absolute, sizes in bytes', (t) => {
  t.deepEqual(parse(GOOD), {
    file: FILE,
    socket: '/srv/zow/run/zow.sock',
    memoryBytes: 2 * 1024 ** 3,
    logLevel: undefined,
    logFormat: undefined,
    zed: true,
    tunables: [],
    pools: [
      {
        name: 'tank',
        vdevs: {
          args: ['mirror', '/srv/zow/disks/a.img', '/dev/sdb'],
          leaves: [
            { path: '/srv/zow/disks/a.img', role: 'data', index: 1 },
            { path: '/dev/sdb', role: 'data', index: 2 },
          ],
          data: [{ paths: ['/srv/zow/disks/a.img', '/dev/sdb'], dataDevices: 1 }],
          summary: 'mirror of 2',
        },
        create: { sizeBytes: 4 * 1024 ** 3 },
        memoryBytes: 2 * 1024 ** 3,
        properties: new Map([['ashift', '12']]),
        volumes: [
          {
            name: 'tank/vm0',
            sizeBytes: 1024 ** 3,
            sparse: false,
            properties: new Map([
              ['volblocksize', '16384'],
              ['compression', 'lz4'],
            ]),
          },
          {
            name: 'tank/vms/web',
            sizeBytes: 1.5 * 1024 ** 3,
            sparse: true,
            properties: new Map([['com.example:owner', 'me']]),
          },
        ],
      },
    ],
    nbd: [
      { kind: 'unix', path: '/srv/zow/run/nbd.sock' },
      { kind: 'tcp', address: '127.0.0.1:10809', allowRemote: false },
      { kind: 'tcp', address: '[::1]:0', allowRemote: false },
      { kind: 'tcp', address: '192.0.2.1:10809', allowRemote: true },
    ],
    devices: [],
    iscsi: [],
    targets: [],
    http: undefined,
  });
});

test('what a listener shows, and to whom', (t) => {
  const { nbd } = parse(`socket: s
nbd:
  - unix: a
    exports: [tank/vm0, 'web/*']
    default_export: tank/vm0
    read_only: true
    idle_timeout: 600
  - tcp: 192.0.2.1:1
    tls: { mode: required, certificate: tls/cert.pem, key: /etc/key.pem, client_authority: ca.pem, psk: keys }
`);
  t.deepEqual(nbd, [
    {
      kind: 'unix',
      path: '/srv/zow/a',
      policy: { exports: ['tank/vm0', 'web/*'], defaultExport: 'tank/vm0', readOnly: true, idleMs: 600_000 },
    },
    {
      kind: 'tcp',
      address: '192.0.2.1:1',
      allowRemote: false,
      policy: {
        tls: {
          mode: 'required',
          certificate: '/srv/zow/tls/cert.pem',
          key: '/etc/key.pem',
          clientAuthority: '/srv/zow/ca.pem',
          psk: '/srv/zow/keys',
        },
      },
    },
  ]);
});

test('HTTP: an address, its names, or a socket', (t) => {
  t.deepEqual(parse('socket: s\nhttp: { listen: 127.0.0.1:9134 }\n').http, {
    kind: 'tcp',
    address: '127.0.0.1:9134',
    allowRemote: false,
    hosts: [],
    token: undefined,
  });
  t.deepEqual(
    parse('socket: s\nhttp: { listen: "0.0.0.0:0", allow_remote: true, hosts: [Store1, a.example], token: t }\n').http,
    {
      kind: 'tcp',
      address: '0.0.0.0:0',
      allowRemote: true,
      hosts: ['store1', 'a.example'],
      token: '/srv/zow/t',
    },
  );
  t.deepEqual(parse('socket: s\nhttp: { unix: run/http.sock, hosts: [Store1], token: /etc/t }\n').http, {
    kind: 'unix',
    path: '/srv/zow/run/http.sock',
    hosts: ['store1'],
    token: '/etc/t',
  });
});

test('iSCSI: listeners, who may log in, and targets', (t) => {
  const { iscsi, targets } = parse(`socket: s
iscsi:
  - listen: 192.0.2.1:3260
    chap: { users: secrets.yaml, mutual: /etc/own.yaml }
    allow: [{ initiator: "iqn.2000-01.com.example:*", address: 10.0.0.0/8, targets: ["tank/*"] }]
    exports: ["tank/*"]
    read_only: true
    prefix: iqn.2026-11.com.example:h1
    block_size: 4096
  - { listen: "[::1]:0", block_size: 4096 }
targets:
  vms: { luns: { 0: tank/vm0, 7: tank/vm1@s }, read_only: true }
  iqn.2000-01.com.example:x: { luns: { 255: web/vm0 }, block_size: 4096 }
`);
  const [first, second] = iscsi;
  t.is(iscsi.length, 2);
  t.deepEqual(first!.chap, { users: '/srv/zow/secrets.yaml', mutual: '/etc/own.yaml' });
  t.deepEqual(
    [first!.address, first!.prefix, first!.blockBytes],
    ['192.0.2.1:3260', 'iqn.2026-11.com.example:h1', 4096],
  );
  const rule = first!.policy.allow![0]!;
  t.is(rule.initiator, 'iqn.2000-01.com.example:*');
  t.deepEqual(
    ['10.1.2.3', '11.1.2.3', '::1'].map((address) => rule.addresses!.check(address)),
    [true, false, false],
  );
  t.deepEqual(second!.policy, {});
  t.deepEqual(targets, [
    {
      name: 'iqn.2026-11.io.zow:vms',
      luns: new Map([
        [0, { volume: 'tank/vm0', readOnly: true }],
        [7, { volume: 'tank/vm1@s', readOnly: true }],
      ]),
      blockBytes: 512,
    },
    {
      name: 'iqn.2000-01.com.example:x',
      luns: new Map([[255, { volume: 'web/vm0', readOnly: false }]]),
      blockBytes: 4096,
    },
  ]);
});

test('nothing is required, for pools can be made by hand', (t) => {
  for (const text of ['', '# nothing yet\n', '{}', 'pools: {}']) {
    const config = parse(text);
    t.is(config.socket, '/run/zow/zow.sock');
    t.is(config.memoryBytes, 1024 ** 3);
    t.deepEqual(config.pools, []);
  }
});

test('anchors and aliases work', (t) => {
  const config = parse('pools:\n  a: { vdevs: [x], volumes: { v: &v { size: 1G }, w: *v } }\n');
  t.deepEqual(
    config.pools[0]?.volumes.map(({ name, sizeBytes }) => [name, sizeBytes]),
    [
      ['a/v', 1024 ** 3],
      ['a/w', 1024 ** 3],
    ],
  );
});

/** Each with everything that is reported, without the file's name. */
const BAD: readonly (readonly [title: string, text: string, ...problems: string[]])[] = [
  [
    'disks of NBD servers that cannot be',
    `socket: s
devices:
  a: { nbd: "10.0.0.2/disk" }
  b: { nbd: "10.0.0.2:99999/disk" }
  c: { nbd: "10.0.0.2:1/disk", io_timeout: 5 }
  d: { nbd: "10.0.0.2:1/disk", connect_timeout: 1ms, tls: { psk: k, authority: c } }
  e: { nbd: "h:1/d", tls: { key: k }, slow: 1s }
  f: { nbd: "h:3/d", slow: 1ms for 5s, fast: 1s }
  a/b: { nbd: "h:2/d" }
pools:
  tank: { vdevs: [/dev/zow/x] }
`,
    `3:3: devices: must be a name of letters, digits, '.', '_' and '-', at most 64, not 'a/b'`,
    `3:13: devices.a.nbd: must be HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH, not '10.0.0.2/disk'`,
    `4:13: devices.b.nbd: a port is 1 to 65535, not '10.0.0.2:99999/disk'`,
    `5:44: devices.c.io_timeout: must be a time such as 3s or 200ms, at most an hour, not 5`,
    `6:13: devices.d.nbd: is the same export as that of 'c'`,
    `6:49: devices.d.connect_timeout: must be 10ms to 3600s, not '1ms'`,
    `6:59: devices.d.tls: psk is in the place of certificates, not beside them`,
    `7:27: devices.e.tls: certificate and key belong together`,
    `7:45: devices.e.slow: must be two times such as 500ms for 5s, at most an hour, not '1s'`,
    `8:28: devices.f.slow: must be 10ms to 3600s, not '1ms'`,
    `8:40: devices.f.fast: unknown key; allowed are nbd, tls, io_timeout, connect_timeout, slow`,
    `11:19: pools.tank.vdevs[0]: there is no 'x' in devices`,
  ],
  [
    'malformed YAML',
    'pools:\n  tank: [a\nnbd: []\n',
    '3:1: is not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
  ],
  ['a tab', 'pools:\n\ttank: {}\n', '2:1: is not valid YAML: Tabs are not allowed as indentation'],
  ['the same key twice', 'memory: 1G\nmemory: 2G\n', '2:1: is not valid YAML: Map keys must be unique'],
  [
    'a second document',
    'memory: 1G\n---\nmemory: 2G\n',
    '2:1: is not valid YAML: a configuration is one document, a second one begins here',
  ],
  ['an unknown tag', 'socket: !secret x\n', '1:9: is not valid YAML: Unresolved tag: !secret'],
  [
    'a list',
    '- a\n',
    '1:1: must be a mapping with the keys socket, memory, log, zed, tunables, devices, pools, nbd, iscsi, targets, http, not a list',
  ],
  [
    'a text',
    'hello',
    `1:1: must be a mapping with the keys socket, memory, log, zed, tunables, devices, pools, nbd, iscsi, targets, http, not 'hello'`,
  ],
  [
    'an unknown key',
    'pool:\n  tank: { vdevs: [a] }\n',
    `1:1: pool: unknown key; did you mean 'pools'? Allowed are socket, memory, log, zed, tunables, devices, pools, nbd, iscsi, targets, http`,
  ],
  [
    'an unknown key without a likeness',
    'pools:\n  tank:\n    vdevs: [a]\n    frobnicate: 1\n',
    '4:5: pools.tank.frobnicate: unknown key; allowed are vdevs, memory, create, properties, volumes',
  ],
  [
    'a missing key',
    'pools:\n  tank: {}\n',
    `2:3: pools.tank: the key 'vdevs' is missing: a list in the grammar of zpool create, such as [mirror, disks/a.img, disks/b.img]`,
  ],
  ['an empty key', 'pools:\n', '1:7: pools: must be a mapping of pool names, each with its vdevs, not nothing'],
  [
    'vdevs as one text',
    'pools: { tank: { vdevs: mirror a b } }',
    `1:25: pools.tank.vdevs: must be a list in the grammar of zpool create, such as [mirror, disks/a.img, disks/b.img], not 'mirror a b'`,
  ],
  [
    'a number as device',
    'pools: { tank: { vdevs: [7] } }',
    '1:26: pools.tank.vdevs[0]: must be a device or a vdev type, as text, not 7',
  ],
  ['too little memory', 'memory: 128M', `1:9: memory: must be 256M to 4G (the core is a 32-bit program), not '128M'`],
  ['too much memory', 'memory: 5G', `1:9: memory: must be 256M to 4G (the core is a 32-bit program), not '5G'`],
  ['memory between pages', 'memory: 300000001', '1:9: memory: must be a multiple of 64K, not 300000001'],
  ['no size', 'memory: lots', `1:9: memory: must be a size such as 10G, 512M, 1.5T or a number of bytes, not 'lots'`],
  ['a negative size', 'memory: -1', '1:9: memory: must be a size such as 10G, 512M, 1.5T or a number of bytes, not -1'],
  [
    'a pool name with a slash',
    'pools: { a/b: { vdevs: [x] } }',
    `1:10: pools.a/b: '/' cannot be in a pool name; allowed are letters, digits and - _ . :`,
  ],
  [
    'a pool name with a digit first',
    'pools: { 1a: { vdevs: [x] } }',
    '1:10: pools.1a: a pool name must begin with a letter',
  ],
  [
    'a reserved pool name',
    'pools: { mirrored: { vdevs: [x] } }',
    '1:10: pools.mirrored: the name is reserved; a pool name cannot begin with mirror, raidz, draid or spare, and cannot be log',
  ],
  [
    'a mirror of one',
    'pools: { t: { vdevs: [mirror, x] } }',
    '1:23: pools.t.vdevs[0]: mirror requires at least 2 devices, 1 given',
  ],
  [
    'a raidz3 of three',
    'pools: { t: { vdevs: [raidz3, a, b, c] } }',
    '1:23: pools.t.vdevs[0]: raidz3 requires at least 4 devices, 3 given',
  ],
  [
    'raidz4',
    'pools: { t: { vdevs: [raidz4, a, b] } }',
    `1:23: pools.t.vdevs[0]: 'raidz4' is no vdev type; raidz and draid have parity 1, 2 or 3`,
  ],
  ...(
    [
      ['mirorr', 'mirror'],
      ['Mirror', 'mirror'],
      ['mirrors', 'mirror'],
      ['radiz2', 'raidz'],
      ['drad1:2d', 'draid'],
      ['logs', 'log'],
      ['cahce', 'cache'],
      ['spares', 'spare'],
      ['specail', 'special'],
    ] as const
  ).map(
    ([word, meant]) =>
      [
        `${word} for ${meant}`,
        `pools: { t: { vdevs: ["${word}", a, b] } }`,
        `1:23: pools.t.vdevs[0]: '${word}' is no vdev type; did you mean '${meant}'? A file of that name is './${word}'`,
      ] as const,
  ),
  [
    'a raidz log',
    'pools: { t: { vdevs: [a, log, raidz, b, c] } }',
    '1:31: pools.t.vdevs[2]: a log can be single devices or mirrors, not raidz',
  ],
  ['log twice', 'pools: { t: { vdevs: [a, log, b, log, c] } }', `1:34: pools.t.vdevs[3]: 'log' can be given only once`],
  [
    'a log without device',
    'pools: { t: { vdevs: [a, log] } }',
    `1:26: pools.t.vdevs[1]: 'log' must be followed by a device or a vdev`,
  ],
  [
    'only a cache',
    'pools: { t: { vdevs: [cache, a] } }',
    '1:22: pools.t.vdevs: needs at least one device that stores data',
  ],
  [
    'a draid that contradicts itself',
    'pools: { t: { vdevs: ["draid1:2d:5c", a, b, c, d] } }',
    `1:23: pools.t.vdevs[0]: 'draid1:2d:5c' says 5 children, but 4 devices are given`,
  ],
  [
    'a draid without room',
    'pools: { t: { vdevs: ["draid2:4d:1s", a, b, c, d] } }',
    `1:23: pools.t.vdevs[0]: 'draid2:4d:1s': 4 data devices a group, but 4 devices leave at most 1`,
  ],
  [
    'a device twice',
    'pools:\n  t: { vdevs: [a, ./a] }\n',
    `2:19: pools.t.vdevs[1]: the device './a' is used twice, first in line 2`,
  ],
  [
    'a device in two pools',
    'pools:\n  t: { vdevs: [a] }\n  u: { vdevs: [/srv/zow/a] }\n',
    `3:16: pools.u.vdevs[0]: the device '/srv/zow/a' is used twice, first in line 2`,
  ],
  [
    'small devices',
    'pools: { t: { vdevs: [a], create: { size: 63M } } }',
    `1:43: pools.t.create.size: a device has at least 64M, not '63M'`,
  ],
  [
    'properties',
    'pools:\n  t:\n    vdevs: [a]\n    properties: { ashift: 8, autotrim: true, failmode: waits, cachefile: none }\n',
    '4:27: pools.t.properties.ashift: must be 0 (found out from the device) or 9 to 16, not 8',
    '4:40: pools.t.properties.autotrim: must be on or off, not true; ZFS writes it on',
    `4:56: pools.t.properties.failmode: must be one of wait, continue, panic, not 'waits'; did you mean 'wait'?`,
    '4:63: pools.t.properties.cachefile: unknown key; allowed are ashift, autoexpand, autoreplace, autotrim, comment, compatibility, dedup_table_quota, delegation, failmode, listsnapshots, multihost',
  ],
  [
    'volumes',
    'pools:\n  t:\n    vdevs: [a]\n    volumes:\n      v: { volblocksize: 3K, size: 1G }\n      w: { size: 1000 }\n      x: {}\n      /y: { size: 1G }\n      z: { size: 1G, volblocksize: 32M }\n',
    `5:26: pools.t.volumes.v.volblocksize: must be a power of two from 512 to 16M, not '3K'`,
    '6:18: pools.t.volumes.w.size: must be a multiple of the default volblocksize 16K, not 1000',
    `7:7: pools.t.volumes.x: the key 'size' is missing: a size such as 10G, 512M, 1.5T or a number of bytes`,
    `8:7: pools.t.volumes./y: a dataset name cannot be empty, begin or end with '/', or contain '//'`,
    `9:36: pools.t.volumes.z.volblocksize: must be a power of two from 512 to 16M, not '32M'`,
  ],
  [
    'a size beyond numbers',
    'pools: { t: { vdevs: [a], volumes: { v: { size: 9P } } } }',
    `1:49: pools.t.volumes.v.size: '9P' is too large; the most is 8P less one byte`,
  ],
  [
    'a size whose unit alone is beyond numbers',
    'pools: { t: { vdevs: [a], volumes: { v: { size: 1E } } } }',
    `1:49: pools.t.volumes.v.size: '1E' is too large; the most is 8P less one byte`,
  ],
  [
    'keys nobody can type',
    'pools: { t: { vdevs: [a], volumes: { v: { size: 1G, encryption: on, keyformat: passphrase }, w: { size: 1G, keyformat: raw } } } }',
    '1:38: pools.t.volumes.v: keyformat needs keylocation: file:///path of the key, for zow serve cannot ask for it',
    '1:109: pools.t.volumes.w.keyformat: needs encryption to be on',
  ],
  [
    'listeners',
    'socket: s\nnbd:\n  - unix: s\n  - tcp: 0.0.0.0:10809\n  - {}\n  - { unix: a, tcp: "127.0.0.1:1" }\n  - tcp: "10809"\n  - tcp: 127.0.0.1:70000\n  - tcp: 300.0.0.1:1\n  - tcp: localhost:5\n  - tcp: LOCALHOST:5\n',
    `3:11: nbd[0].unix: the socket '/srv/zow/s' is used twice, first in line 1`,
    `4:10: nbd[1].tcp: '0.0.0.0:10809': other machines can reach it, and NBD without TLS has neither passwords nor encryption; use 127.0.0.1 or a unix socket, require tls, or add allow_remote: true`,
    '5:5: nbd[2]: needs exactly one of unix and tcp',
    '6:5: nbd[3]: needs exactly one of unix and tcp',
    `7:10: nbd[4].tcp: must be an address with a port, such as 127.0.0.1:10809 or [::1]:10809, not '10809'`,
    '8:10: nbd[5].tcp: a port is at most 65535, not 70000',
    `9:10: nbd[6].tcp: '300.0.0.1' is no IP address`,
    `11:10: nbd[8].tcp: the listener 'LOCALHOST:5' is used twice, first in line 10`,
  ],
  [
    'time-outs',
    'socket: s\nnbd:\n  - { unix: a, idle_timeout: 0 }\n  - { unix: b, idle_timeout: 10s }\n',
    '3:30: nbd[0].idle_timeout: must be a number of seconds from 1 to 604800, not 0',
    "4:30: nbd[1].idle_timeout: must be a number of seconds from 1 to 604800, not '10s'",
  ],
  [
    'TLS that cannot work',
    'socket: s\nnbd:\n  - { unix: a, tls: { mode: required } }\n  - { unix: b, tls: { mode: required, key: k } }\n  - { unix: c, tls: { mode: optional, psk: p, client_authority: c } }\n  - { unix: d, tls: { psk: p } }\n  - { tcp: 192.0.2.1:1, tls: { mode: optional, psk: p } }\n',
    '3:21: nbd[0].tls: needs certificate and key, or psk',
    '4:21: nbd[1].tls: certificate and key belong together',
    '5:47: nbd[2].tls.client_authority: is only for a listener with a certificate',
    "6:16: nbd[3].tls: the key 'mode' is missing: required or optional",
    `7:12: nbd[4].tcp: '192.0.2.1:1': other machines can reach it, and NBD without TLS has neither passwords nor encryption; use 127.0.0.1 or a unix socket, require tls, or add allow_remote: true`,
  ],
  [
    'iSCSI listeners',
    'socket: s\niscsi:\n  - listen: 0.0.0.0:3260\n  - listen: 127.0.0.1:1\n  - { listen: 127.0.0.1:1, block_size: 4096 }\n  - { listen: 300.0.0.1:2, block_size: 1024 }\n  - { listen: 127.0.0.1:3, allow: [{ address: 10.0.0.0/33 }] }\n  - {}\n',
    `3:13: iscsi[0].listen: '0.0.0.0:3260': other machines can reach it, and iSCSI without chap asks nobody for a password; use 127.0.0.1, add chap, or add allow_remote: true`,
    `5:15: iscsi[2].listen: the listener '127.0.0.1:1' is used twice, first in line 4`,
    '5:40: iscsi[2].block_size: a volume has one block size: 512, as the first listener says',
    `6:15: iscsi[3].listen: '300.0.0.1' is no IP address`,
    '6:40: iscsi[3].block_size: must be 512 or 4096, not 1024',
    `7:47: iscsi[4].allow[0].address: must be an IP address, or a network such as 10.0.0.0/8, not '10.0.0.0/33'`,
    "8:5: iscsi[5]: the key 'listen' is missing: an address with a port, such as 127.0.0.1:3260 or [::1]:3260",
  ],
  [
    'an HTTP listener',
    'socket: s\nnbd: [{ tcp: 127.0.0.1:9134 }]\nhttp: { listen: 127.0.0.1:9134, hosts: [a b] }\n',
    `3:17: http.listen: the listener '127.0.0.1:9134' is used twice, first in line 2`,
    `3:41: http.hosts[0]: must be a host name without a port, not 'a b'`,
  ],
  [
    'an HTTP listener that others reach',
    'socket: s\nhttp: { listen: 0.0.0.0:9134 }\n',
    `2:17: http.listen: '0.0.0.0:9134': other machines can reach it, and whoever reaches the port sees the names and the use of all pools and volumes; use 127.0.0.1 or a unix socket, or add allow_remote: true`,
  ],
  [
    'an HTTP listener at two places, and options of the other kind',
    'socket: s\nhttp: { listen: 127.0.0.1:9134, unix: s, allow_remote: true, token: 7 }\n',
    '2:7: http: needs exactly one of listen and unix',
    `2:39: http.unix: the socket '/srv/zow/s' is used twice, first in line 1`,
    '2:42: http.allow_remote: is only for listen',
    '2:69: http.token: must be the path of a file, not 7',
  ],
  [
    'iSCSI targets',
    'socket: s\ntargets:\n  a b: { luns: { 0: tank/a } }\n  x: { luns: { 0: tank/a, 256: tank/b } }\n  y: { luns: {} }\n',
    `2:1: targets: needs the section iscsi, to be reached by`,
    `3:3: targets['a b']: 'iqn.2026-11.io.zow:a b' is no iSCSI name; use letters, digits and - . :`,
    "4:14: targets.x.luns: must be a number from 0 to 255, not '256'",
    `4:19: targets.x.luns.0: the volume 'tank/a' is used twice, first in line 3`,
    '5:14: targets.y.luns: must be a mapping of numbers from 0 to 255, each with the name of a volume, not an empty mapping',
  ],
  [
    'a long socket path',
    `socket: ${'x'.repeat(120)}\n`,
    `1:9: socket: the path of a unix socket is at most 107 bytes, '/srv/zow/${'x'.repeat(51)}…' has 129`,
  ],
];

for (const [title, text, ...problems] of BAD) {
  test(`refused: ${title}`, (t) => {
    const error = t.throws(() => parse(text), { instanceOf: ConfigError });
    t.is(error.message, problems.map((problem) => `${FILE}:${problem}`).join('\n'));
  });
}

test('an object is validated by the same rules', (t) => {
  const config = configFromObject({ socket: 's', pools: { tank: { vdevs: ['a'] } } }, '/d');
  t.is(config.socket, '/d/s');
  const error = t.throws(() => configFromObject({ memory: 1 }, '/d', { defaultSocket: '/s' }), {
    instanceOf: ConfigError,
  });
  t.is(error.message, 'config:1:1: memory: must be 256M to 4G (the core is a 32-bit program), not 1');
  t.throws(() => configFromObject({}, '/d'), { message: /the key 'socket' is missing/ });
});

test('files that are no configuration', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'zow-config-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const large = join(directory, 'large');
  const binary = join(directory, 'binary');
  const nested = join(directory, 'nested');
  const bomb = join(directory, 'bomb');
  mkdirSync(join(directory, 'directory'));
  writeFileSync(large, Buffer.alloc(1024 * 1024 + 1, '#'));
  writeFileSync(binary, Buffer.from([0x61, 0xff, 0xfe]));
  writeFileSync(nested, '['.repeat(100_000));
  const levels = 'bcdefghi'.split('');
  writeFileSync(
    bomb,
    `a: &a [x, x, x, x, x, x, x, x, x]\n${levels.map((level, i) => `${level}: &${level} [${`*${'abcdefgh'[i]}, `.repeat(9)}]\n`).join('')}`,
  );
  const cases: readonly (readonly [string, string | RegExp])[] = [
    [join(directory, 'missing'), 'cannot be read: no such file or directory'],
    [join(directory, 'directory'), 'is a directory; a configuration is a file, such as pool.yaml'],
    [large, 'is larger than 1024 KiB; this cannot be a configuration'],
    ['/dev/zero', 'is larger than 1024 KiB; this cannot be a configuration'],
    [binary, 'is not UTF-8 text'],
    [nested, /is not (usable|valid) YAML/],
    [bomb, /is not usable YAML: Excessive alias count/],
  ];
  for (const [file, message] of cases) {
    const error = t.throws(() => loadConfig(file), { instanceOf: ConfigError });
    if (typeof message === 'string') t.is(error.message, `${file}:1:1: ${message}`);
    else t.regex(error.message, message);
  }
});

/** Text like a configuration, with pieces removed, doubled, swapped or replaced. */
function mutate(text: string, edits: readonly (readonly [number, number, number, string])[]): string {
  let result = text;
  for (const [kind, a, b, insert] of edits) {
    const start = Math.floor(a * result.length);
    const end = Math.min(result.length, start + Math.floor(b * 12));
    const piece = result.slice(start, end);
    const replacement = kind === 0 ? '' : kind === 1 ? piece + piece : kind === 2 ? insert : insert + piece;
    result = result.slice(0, start) + replacement + result.slice(end);
  }
  return result;
}

test('whatever the text, the answer is a Config or a ConfigError with places in the file', (t) => {
  const insert = fc.oneof(
    fc.constantFrom(
      '\n',
      '  ',
      '- ',
      ': ',
      '{',
      '}',
      '[',
      ']',
      '&a ',
      '*a',
      '!!x ',
      '|',
      '"',
      "'",
      '#',
      '? ',
      '<<: ',
      '---\n',
    ),
    fc.constantFrom(
      'null',
      'true',
      '1e999',
      '.nan',
      '0x10',
      '__proto__',
      'constructor',
      '9P',
      'raidz9',
      'draid:0d',
      '::',
    ),
    fc.string({ maxLength: 6, unit: 'binary' }),
  );
  const edit = fc.tuple(
    fc.integer({ min: 0, max: 3 }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    insert,
  );
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
      const text = mutate(GOOD, edits);
      try {
        parse(text);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        const lines = Buffer.from(text).toString().split('\n').length;
        for (const problem of error.problems) {
          if (problem.line < 1 || problem.line > lines || problem.column < 1)
            throw new Error(`no such place: ${error.message}`);
          if (/[\n\0]/.test(problem.message)) throw new Error(`not one line: ${JSON.stringify(problem.message)}`);
        }
      }
    }),
    { numRuns: 1500 },
  );
  t.pass();
});

test('disks of NBD servers', (t) => {
  const { devices, pools } = parse(`socket: s
devices:
  m2-disk: { nbd: "M2.example:10900/m2/disk", tls: { authority: ca.pem, server_name: m2 }, io_timeout: 3s, connect_timeout: 200ms, slow: 0.5s for 5s }
  six: { nbd: "[fd00::2]:10809/" }
  local: { nbd: "nbd+unix:///a%20b?socket=run/nbd.sock" }
pools:
  tank: { vdevs: [mirror, a.img, /dev/zow/m2-disk] }
`);
  t.deepEqual(devices, [
    {
      name: 'm2-disk',
      address: { kind: 'tcp', host: 'm2.example', port: 10900, exportName: 'm2/disk' },
      tls: {
        authority: '/srv/zow/ca.pem',
        serverName: 'm2',
        certificate: undefined,
        key: undefined,
        psk: undefined,
      },
      ioTimeoutMs: 3000,
      connectTimeoutMs: 200,
      slow: { overMs: 500, forMs: 5000 },
    },
    {
      name: 'six',
      address: { kind: 'tcp', host: 'fd00::2', port: 10809, exportName: '' },
      tls: undefined,
      ioTimeoutMs: 5000,
      connectTimeoutMs: 2000,
      slow: undefined,
    },
    {
      name: 'local',
      address: { kind: 'unix', path: '/srv/zow/run/nbd.sock', exportName: 'a b' },
      tls: undefined,
      ioTimeoutMs: 5000,
      connectTimeoutMs: 2000,
      slow: undefined,
    },
  ]);
  t.deepEqual(pools[0]!.vdevs.args, ['mirror', '/srv/zow/a.img', '/dev/zow/m2-disk']);
});
