import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { parseConfig } from '../../../host/config/load.ts';
import { NvlistError } from '../../../host/nvlist/nvlist.ts';
import { decodeXdrNvlist } from '../../../host/nvlist/xdr.ts';
import { parseLabel } from '../../../host/serve/label.ts';
import { type Plan, planPools } from '../../../host/serve/plan.ts';
import { surveyDevice, surveyPool } from '../../../host/serve/survey.ts';
import { type NvPairs, packNvlist } from '../nvlist/pack.ts';
import { type LabelFields, mirrorLabel, sparseFile, writeLabel } from './labels.ts';

const MIB = 1024 ** 2;

function scratch(t: { teardown: (fn: () => void) => void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-survey-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

function fields(folder: string, more: Partial<LabelFields> = {}): LabelFields {
  const paths = new Map([
    [1n, join(folder, 'a')],
    [2n, join(folder, 'b')],
  ]);
  return { name: 'tank', poolGuid: 100n, guid: 1n, paths, ...more };
}

async function plan(folder: string, yaml: string): Promise<Plan> {
  const config = parseConfig(join(folder, 'pool.yaml'), Buffer.from(yaml), { defaultSocket: '/run/zow/zow.sock' });
  const surveys = [];
  for (const pool of config.pools) surveys.push(await surveyPool(pool, { exclusive: true }));
  return planPools(surveys);
}

const MIRROR = 'pools: { tank: { vdevs: [mirror, a, b] } }';
const CREATE = 'pools: { tank: { vdevs: [mirror, a, b], create: { size: 64M } } }';

test('a label says which pool, which device and which paths', (t) => {
  t.deepEqual(parseLabel(packNvlist(mirrorLabel(fields('/d')))), {
    state: 'active',
    pool: { name: 'tank', guid: 100n },
    txg: 4n,
    guid: 1n,
    ashift: 12,
    paths: ['/d/a', '/d/b'],
    path: '/d/a',
    hostname: 'elsewhere',
  });
  t.is(parseLabel(packNvlist(mirrorLabel(fields('/d', { txg: 0n })))), undefined, 'a half-made label');
  t.is(parseLabel(packNvlist({ state: 9n, guid: 1n, txg: 1n })), undefined, 'no such state');
  t.like(parseLabel(packNvlist({ version: 5000n, state: 4n, guid: 9n })), {
    state: 'cache',
    pool: undefined,
    guid: 9n,
  });
});

test('a damaged nvlist is none, whatever is damaged, and costs little', (t) => {
  const good = packNvlist(mirrorLabel(fields('/d')));
  const edit = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 8 }), fc.nat(good.length), (edits, cut) => {
      const bytes = Buffer.from(good.subarray(0, good.length - (cut % 3 === 0 ? cut : 0)));
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      try {
        decodeXdrNvlist(bytes);
      } catch (error) {
        if (!(error instanceof NvlistError)) throw error;
      }
      parseLabel(bytes);
    }),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      bytes[0] = 1;
      parseLabel(bytes);
    }),
    { numRuns: 1000 },
  );
  let nested: NvPairs = {};
  for (let depth = 0; depth < 30; depth++) nested = { deeper: nested };
  t.throws(() => decodeXdrNvlist(packNvlist(nested)), { message: 'not an nvlist: nested too deeply' });
});

test('any one of the four labels is enough, and the newest counts', async (t) => {
  const folder = scratch(t);
  for (const which of [0, 1, 2, 3]) {
    const path = sparseFile(join(folder, `only${which}`), 64 * MIB + 1000);
    writeLabel(path, mirrorLabel(fields(folder)), [which]);
    t.like(await surveyDevice(path, { exclusive: true }), { kind: 'labelled', label: { pool: { name: 'tank' } } });
  }
  const path = sparseFile(join(folder, 'mixed'), 64 * MIB);
  writeLabel(path, mirrorLabel(fields(folder, { txg: 9n })), [3]);
  writeLabel(path, mirrorLabel(fields(folder, { name: 'older', txg: 8n })), [0, 1, 2]);
  t.like(await surveyDevice(path, { exclusive: true }), { label: { pool: { name: 'tank' }, txg: 9n } });
});

test('what is on a device that is no pool', async (t) => {
  const folder = scratch(t);
  const blank = sparseFile(join(folder, 'blank'), 64 * MIB);
  t.like(await surveyDevice(blank, { exclusive: true }), { kind: 'blank', sizeBytes: 64 * MIB });
  const ext4 = sparseFile(join(folder, 'ext4'), 64 * MIB);
  writeFileSync(ext4, Buffer.concat([Buffer.alloc(0x438), Buffer.from([0x53, 0xef])]), { flag: 'r+' });
  t.like(await surveyDevice(ext4, { exclusive: true }), { kind: 'foreign', what: 'an ext2, ext3 or ext4 file system' });
  const text = join(folder, 'text');
  writeFileSync(text, 'hello');
  t.like(await surveyDevice(text, { exclusive: true }), { kind: 'foreign', what: 'data that is not ZFS' });
  t.deepEqual(await surveyDevice(join(folder, 'none'), { exclusive: true }), { kind: 'missing' });
  t.like(await surveyDevice(folder, { exclusive: true }), { kind: 'unusable' });
});

test('missing devices are created only where the configuration allows it', async (t) => {
  const folder = scratch(t);
  t.deepEqual((await plan(folder, MIRROR)).errors, [
    `pool 'tank' does not exist (${folder}/a is missing, ${folder}/b is missing); create: { size: 4G } in the configuration allows it to be created`,
  ]);
  t.like(await plan(folder, CREATE), {
    errors: [],
    pools: [
      {
        action: 'create',
        files: [
          { path: join(folder, 'a'), sizeBytes: 64 * MIB },
          { path: join(folder, 'b'), sizeBytes: 64 * MIB },
        ],
      },
    ],
  });
  t.deepEqual((await plan(folder, 'pools: { tank: { vdevs: [a], create: {} } }')).errors, [
    `pool 'tank' does not exist and cannot be created: ${folder}/a is missing; create: { size: … } would create it as a sparse file`,
  ]);
  t.deepEqual((await plan(folder, 'pools: { tank: { vdevs: [/dev/zow-no-such], create: { size: 64M } } }')).errors, [
    `pool 'tank' does not exist and cannot be created: /dev/zow-no-such is missing, and zow creates no files in /dev`,
  ]);
});

test('a pool that exists is imported, whatever is missing of it', async (t) => {
  const folder = scratch(t);
  writeLabel(sparseFile(join(folder, 'a'), 64 * MIB), mirrorLabel(fields(folder)));
  t.like(await plan(folder, CREATE), {
    errors: [],
    warnings: [`pool 'tank': ${folder}/b is missing; the pool is imported without it`],
    pools: [{ action: 'import', guid: 100n, devices: [join(folder, 'a')] }],
  });
});

test('a device that was added later is found by its label; a copy of one is not', async (t) => {
  const folder = scratch(t);
  for (const [name, guid] of [
    ['a', 1n],
    ['b', 2n],
  ] as const) {
    writeLabel(sparseFile(join(folder, name), 64 * MIB), mirrorLabel(fields(folder, { guid })));
  }
  writeLabel(sparseFile(join(folder, 'copy'), 64 * MIB), mirrorLabel(fields(folder)));
  const added = fields(folder, { guid: 3n, paths: new Map([[3n, '/elsewhere/c']]) });
  writeLabel(sparseFile(join(folder, 'c'), 64 * MIB), mirrorLabel(added));
  const stranger = fields(folder, { poolGuid: 5n, guid: 4n, paths: new Map([[4n, join(folder, 'd')]]) });
  writeLabel(sparseFile(join(folder, 'd'), 64 * MIB), mirrorLabel(stranger));
  t.like(await plan(folder, MIRROR), {
    errors: [],
    pools: [{ action: 'import', devices: ['a', 'b', 'c'].map((name) => join(folder, name)) }],
  });
});

test('contradictions name both sides', async (t) => {
  const folder = scratch(t);
  const a = sparseFile(join(folder, 'a'), 64 * MIB);
  const b = sparseFile(join(folder, 'b'), 64 * MIB);
  const cases: readonly (readonly [string, LabelFields | undefined, LabelFields | undefined, string | RegExp])[] = [
    [
      CREATE,
      fields(folder, { name: 'backup' }),
      undefined,
      `${a} holds pool 'backup' of host elsewhere, the configuration wants 'tank' there`,
    ],
    [
      CREATE,
      fields(folder, { state: 2n }),
      undefined,
      /a holds pool 'tank', destroyed but still there: zpool import -D brings it back/,
    ],
    [
      MIRROR,
      fields(folder),
      fields(folder, { poolGuid: 200n, guid: 2n }),
      `${a} and ${b} hold two different pools named 'tank', guid 100 and 200`,
    ],
    [
      'pools: { tank: { vdevs: [mirror, a, b], properties: { ashift: 9 } } }',
      fields(folder),
      fields(folder, { guid: 2n }),
      `pool 'tank': ${a} has ashift 12, the configuration 9; it cannot be changed`,
    ],
    [
      'pools: { tank: { vdevs: [mirror, a, b], create: { size: 128M } } }',
      undefined,
      undefined,
      `pool 'tank' does not exist and cannot be created: ${a} has 64M, the configuration says create size 128M`,
    ],
    [
      'pools: { tank: { vdevs: [mirror, a, b], create: {}, volumes: { v: { size: 64M } } } }',
      undefined,
      undefined,
      /its volumes need 64M, its devices hold less than 30M; sparse: true makes/,
    ],
  ];
  for (const [yaml, onA, onB, message] of cases) {
    for (const [path, label] of [
      [a, onA],
      [b, onB],
    ] as const)
      writeLabel(path, label === undefined ? {} : mirrorLabel(label));
    for (const [path, label] of [
      [a, onA],
      [b, onB],
    ] as const)
      if (label === undefined) wipe(path);
    const { errors } = await plan(folder, yaml);
    if (typeof message === 'string') t.is(errors[0], message);
    else t.regex(errors[0] ?? '', message);
  }
  symlinkSync('a', join(folder, 'link'));
  wipe(a);
  t.deepEqual((await plan(folder, 'pools: { tank: { vdevs: [mirror, a, link], create: {} } }')).errors, [
    `${a} and ${folder}/link are the same disk`,
  ]);
});

function wipe(path: string): void {
  rmSync(path);
  sparseFile(path, 64 * MIB);
}

test('devices that are too small, not blank or no devices', async (t) => {
  const folder = scratch(t);
  sparseFile(join(folder, 'a'), 32 * MIB);
  writeFileSync(sparseFile(join(folder, 'b'), 64 * MIB), 'precious', { flag: 'r+' });
  const { errors, pools } = await plan(folder, 'pools: { tank: { vdevs: [a, b, /dev/null], create: {} } }');
  t.deepEqual(pools, []);
  t.is(errors.length, 1, 'what is no device ends it');
  t.regex(errors[0] ?? '', /^pool 'tank': \/dev\/null is a character device/);
  t.deepEqual((await plan(folder, 'pools: { tank: { vdevs: [a, b], create: {} } }')).errors, [
    `pool 'tank' does not exist and cannot be created: ${folder}/a has 32M; a device has at least 64M`,
    `pool 'tank' does not exist and cannot be created: ${folder}/b holds data that is not ZFS; only what is blank is used (wipefs, or another device)`,
  ]);
});
