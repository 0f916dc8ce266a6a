import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { Chap, chapResponse } from '../../../host/iscsi/chap.ts';
import { loadChap } from '../../../host/iscsi/chap-file.ts';
import { BHS_BYTES, Flag, Opcode, Stage } from '../../../host/iscsi/constants.ts';
import { crc32c } from '../../../host/iscsi/crc32c.ts';
import { datasetsOf, isName, PREFIX_DEFAULT, targetName } from '../../../host/iscsi/names.ts';
import { defaultParameters, negotiate } from '../../../host/iscsi/negotiate.ts';
import { checkIscsiListener } from '../../../host/iscsi/server.ts';
import { parseBinary, parseNumber, parsePairs } from '../../../host/iscsi/text.ts';
import { until } from '../nbd/fixture.ts';
import { Initiator } from './client.ts';
import { serve, vm0 } from './fixture.ts';

const hex = (status: number) => `0x${status.toString(16).padStart(4, '0')}`;

test('CRC32C: the examples of RFC 3720, B.4, at every alignment', (t) => {
  const examples: [Buffer, number][] = [
    [Buffer.alloc(32), 0x8a9136aa],
    [Buffer.alloc(32, 0xff), 0x62a8ab43],
    [Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    [Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
    [Buffer.from('123456789'), 0xe3069283],
  ];
  for (const [bytes, crc] of examples) {
    for (let shift = 0; shift < 8; shift++) {
      const moved = Buffer.alloc(bytes.length + 8).subarray(shift, shift + bytes.length);
      bytes.copy(moved);
      t.is(crc32c(moved), crc);
    }
    const cut = bytes.length >> 1;
    t.is(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), crc, 'in two parts');
  }
});

test('names of targets: one for each dataset, and back', (t) => {
  t.is(targetName(PREFIX_DEFAULT, 'tank/vm0'), vm0);
  const datasets = [
    'tank/vm0',
    'tank/VM 0',
    'tank/a:b',
    'tank/a/b',
    'tank/a.b',
    'tank/a_b',
    'tank/vm0@monday',
    'tank/a-2eb',
  ];
  const names = datasets.map((dataset) => targetName(PREFIX_DEFAULT, dataset)!);
  t.is(new Set(names).size, datasets.length);
  for (const [i, name] of names.entries()) {
    t.true(isName(name), name);
    t.is(datasetsOf(PREFIX_DEFAULT, name)[0], datasets[i]);
  }
  t.true(datasetsOf(PREFIX_DEFAULT, 'iqn.2026-11.io.zow:tank/vm0@monday').includes('tank/vm0@monday'));
  t.deepEqual(datasetsOf(PREFIX_DEFAULT, 'iqn.1999-01.com.example:tank:vm0'), []);
  t.is(targetName(PREFIX_DEFAULT, 'x'.repeat(250)), undefined);
  for (const name of ['', 'iqn', 'iqn.2026-13.io.zow', 'eui.02004567a425678', 'x'.repeat(300)])
    t.false(isName(name), name);
});

test('text: what is no pair, number or binary value is told apart', (t) => {
  t.deepEqual(
    [...parsePairs(Buffer.from('A=1\0B=x=y\0C=\0'))],
    [
      ['A', '1'],
      ['B', 'x=y'],
      ['C', ''],
    ],
  );
  for (const wrong of ['A\0', '=1\0', 'a=1\0', 'A=1\0A=2\0']) t.throws(() => parsePairs(Buffer.from(wrong)));
  t.throws(() => parsePairs(Buffer.from(Array.from({ length: 300 }, (_, i) => `K${i}=1\0`).join(''))));
  t.is(parseNumber('0x100', 0, 300), 256);
  for (const wrong of ['', '-1', '1.5', 'x', '301', '0x', '99999999999']) t.is(parseNumber(wrong, 0, 300), undefined);
  t.deepEqual(parseBinary('0x0aFF', 4), Buffer.from([0x0a, 0xff]));
  t.deepEqual(parseBinary('0bAQI=', 4), Buffer.from([1, 2]));
  for (const wrong of ['', '0x', '0xzz', '0b', '0b!!', 'ff', '0x0102030405']) t.is(parseBinary(wrong, 4), undefined);
});

test('each key is negotiated by its function, once, within its bounds', (t) => {
  const answer = (key: string, value: string, discovery = false) => {
    const to = { ...defaultParameters };
    return [negotiate(key, value, to, { discovery, done: new Set() }), to] as const;
  };
  t.is(answer('MaxConnections', '8')[0], '1');
  t.is(answer('InitialR2T', 'No')[0], 'No');
  t.is(answer('InitialR2T', 'Yes')[1].initialR2t, true);
  t.is(answer('ImmediateData', 'No')[1].immediateData, false);
  t.is(answer('FirstBurstLength', '262144')[1].firstBurstBytes, 65536);
  t.is(answer('FirstBurstLength', '1024')[1].firstBurstBytes, 1024);
  t.is(answer('MaxBurstLength', '511')[0], 'Reject');
  t.is(answer('MaxBurstLength', '16777216')[0], 'Reject');
  t.is(answer('HeaderDigest', 'CRC32C,None')[1].headerDigest, true);
  t.is(answer('HeaderDigest', 'None,CRC32C')[0], 'None');
  t.is(answer('DataDigest', 'MD5')[0], 'Reject');
  t.is(answer('ErrorRecoveryLevel', '2')[0], '0');
  t.is(answer('DefaultTime2Wait', '20')[0], '20');
  t.is(answer('DataPDUInOrder', 'No')[0], 'Yes');
  t.is(answer('IFMarker', 'Yes')[0], 'No');
  t.is(answer('OFMarkInt', '2048~8192')[0], 'Irrelevant');
  t.is(answer('TaskReporting', 'FastAbort,ResponseFence')[0], 'ResponseFence');
  t.is(answer('X-com.example.key', '1')[0], 'NotUnderstood');
  t.is(answer('InitialR2T', 'Yes', true)[0], 'Irrelevant');
  t.is(answer('MaxRecvDataSegmentLength', '8192')[0], undefined);
  const session = { discovery: false, done: new Set<string>() };
  negotiate('MaxBurstLength', '65536', { ...defaultParameters }, session);
  t.is(negotiate('MaxBurstLength', '65536', { ...defaultParameters }, session), 'Reject');
});

test('a normal session, and its end', async (t) => {
  const { address, server } = await serve(t);
  const initiator = await Initiator.connect(address);
  t.is(hex(await initiator.login({ target: vm0 })), '0x0000');
  t.is(initiator.agreed.get('TargetPortalGroupTag'), '1');
  t.is(initiator.agreed.get('FirstBurstLength'), undefined, 'what is not offered is not answered');
  t.not(initiator.tsih, 0);
  await initiator.settle();
  t.is(await initiator.logout(), 0);
  await initiator.ended();
  t.is(server.metrics.logins.succeeded, 1);
});

test('discovery: all targets, or one, in as many PDUs as it takes', async (t) => {
  const { address, provider } = await serve(t);
  for (let i = 1; i < 300; i++) provider.add(`tank/vm${i}`, 1 << 20);
  const initiator = await Initiator.connect(address);
  t.is(await initiator.login({ keys: { MaxRecvDataSegmentLength: '512' } }), 0);
  let answer = await initiator.request(Opcode.TEXT_REQUEST, Flag.FINAL, () => {}, Buffer.from('SendTargets=All\0'));
  const pieces = [answer.data];
  while ((answer.flags & Flag.CONTINUE) !== 0) {
    t.true(answer.data.length <= 512);
    const ttt = answer.bhs.readUInt32BE(20);
    answer = await initiator.request(Opcode.TEXT_REQUEST, Flag.FINAL, (bhs) => bhs.writeUInt32BE(ttt, 20));
    pieces.push(answer.data);
  }
  const found = Buffer.concat(pieces).toString().split('\0');
  t.is(found.filter((line) => line.startsWith('TargetName=')).length, 300);
  t.true(found.includes(`TargetAddress=${address},1`));
  const one = await initiator.request(Opcode.TEXT_REQUEST, Flag.FINAL, () => {}, Buffer.from(`SendTargets=${vm0}\0`));
  t.is(one.data.toString(), `TargetName=${vm0}\0TargetAddress=${address},1\0`);
  const other = await initiator.request(
    Opcode.TEXT_REQUEST,
    Flag.FINAL,
    () => {},
    Buffer.from('Unheard=1\0MaxBurstLength=4096\0'),
  );
  t.is(other.data.toString(), 'Unheard=NotUnderstood\0MaxBurstLength=Reject\0');
  initiator.destroy();
});

test('every refused login says why', async (t) => {
  const { address, provider, server } = await serve(t, {
    listener: { allow: [{ initiator: 'iqn.*:one', targets: ['tank/vm0'] }] },
  });
  provider.add('tank/other', 1 << 20);
  const transit = Flag.TRANSIT | (Stage.OPERATIONAL << 2) | Stage.FULL_FEATURE;
  const refused: [string, (initiator: Initiator) => Promise<number>][] = [
    ['0x0203', (i) => i.login({ target: 'iqn.2026-11.io.zow:tank:none' })],
    ['0x0203', (i) => i.login({ target: 'rubbish' })],
    ['0x0202', (i) => i.login({ target: 'iqn.2026-11.io.zow:tank:other' })],
    ['0x020a', (i) => i.login({ target: vm0, tsih: 77 })],
    ['0x0207', async (i) => (await i.loginRequest(transit, [])).bhs.readUInt16BE(36)],
    ['0x0207', async (i) => (await i.loginRequest(transit, [['InitiatorName', i.name]])).bhs.readUInt16BE(36)],
    ['0x0200', async (i) => (await i.loginRequest(transit, [['InitiatorName', 'not a name']])).bhs.readUInt16BE(36)],
    [
      '0x0209',
      async (i) =>
        (
          await i.loginRequest(transit, [
            ['InitiatorName', i.name],
            ['SessionType', 'Odd'],
          ])
        ).bhs.readUInt16BE(36),
    ],
    [
      '0x020b',
      async (i) =>
        (await i.loginRequest(Flag.TRANSIT | (1 << 2) | 2, i.identity({ target: vm0 }))).bhs.readUInt16BE(36),
    ],
    [
      '0x020b',
      async (i) => (await i.loginRequest(transit | Flag.CONTINUE, i.identity({ target: vm0 }))).bhs.readUInt16BE(36),
    ],
    [
      '0x0201',
      async (i) =>
        (await i.loginRequest(0x81, [...i.identity({ target: vm0 }), ['AuthMethod', 'KRB5']])).bhs.readUInt16BE(36),
    ],
  ];
  for (const [status, login] of refused) {
    const initiator = await Initiator.connect(address);
    t.is(hex(await login(initiator)), status);
    await initiator.ended();
  }
  t.is(server.metrics.logins.failed, refused.length);
  const other = await Initiator.connect(address, 'iqn.2026-11.io.zow.test:two');
  t.is(hex(await other.login({ target: vm0 })), '0x0202');
  const lower = await Initiator.connect(address, 'iqn.2026-11.io.zow.test:one');
  t.is(hex(await lower.login({ target: vm0.toUpperCase().replace('IQN', 'iqn') })), '0x0000');
  lower.destroy();
});

test('what is no login is cut off, and so is who takes too long', async (t) => {
  const { address, server } = await serve(t, { limits: { loginMs: 300, logins: 4 } });
  const early = await Initiator.connect(address);
  early.send(early.bhs(Opcode.NOP_OUT, Flag.FINAL));
  await early.ended();
  const rubbish = await Initiator.connect(address);
  rubbish.socket.write(randomBytes(4096));
  await rubbish.ended();
  const slow = await Initiator.connect(address);
  slow.socket.write(Buffer.alloc(20, Opcode.LOGIN_REQUEST));
  await slow.ended();
  t.true(server.metrics.connections.protocolErrors >= 1);
});

test('half-open logins do not keep others out: the oldest go', async (t) => {
  const { address, server } = await serve(t, { limits: { logins: 4 } });
  const idle: Initiator[] = [];
  for (let i = 0; i < 6; i++) idle.push(await Initiator.connect(address));
  await until(() => idle.filter(({ closed }) => closed).length === 2, 'the two oldest are closed');
  const initiator = await Initiator.open(address, vm0);
  await initiator.settle();
  t.true(server.connections <= 5);
  for (const each of [...idle, initiator]) each.destroy();
});

/** Logs in with CHAP; the status of the last answer. */
async function chapLogin(
  initiator: Initiator,
  { user, secret, algorithms = '5,7', mutual }: { user: string; secret: string; algorithms?: string; mutual?: Buffer },
): Promise<number> {
  const hashes: Record<string, string> = { 5: 'md5', 6: 'sha1', 7: 'sha256', 8: 'sha3-256' };
  await initiator.loginRequest(0, [...initiator.identity({ target: vm0 }), ['AuthMethod', 'CHAP,None']]);
  if (initiator.agreed.get('AuthMethod') !== 'CHAP') throw new Error('no CHAP');
  const offered = await initiator.loginRequest(0, [['CHAP_A', algorithms]]);
  if (offered.bhs.readUInt16BE(36) !== 0) return offered.bhs.readUInt16BE(36);
  const id = Number(initiator.agreed.get('CHAP_I'));
  const challenge = parseBinary(initiator.agreed.get('CHAP_C')!, 1024)!;
  const response = chapResponse(hashes[initiator.agreed.get('CHAP_A')!]!, id, secret, challenge);
  const keys: [string, string][] = [
    ['CHAP_N', user],
    ['CHAP_R', `0x${response.toString('hex')}`],
  ];
  if (mutual !== undefined) keys.push(['CHAP_I', '7'], ['CHAP_C', `0x${mutual.toString('hex')}`]);
  const answer = await initiator.loginRequest(Flag.TRANSIT | Stage.OPERATIONAL, keys);
  return answer.bhs.readUInt16BE(36);
}

const users = new Map([
  ['alice', 'a secret of alice'],
  ['bob', 'another secret!!'],
]);

test('CHAP with every algorithm, and mutual CHAP', async (t) => {
  const { address } = await serve(t, {
    listener: { chap: { users, mutual: { name: 'zow', secret: 'who the target is' } } },
  });
  for (const [algorithms, chosen] of [
    ['5', '5'],
    ['6', '6'],
    ['5,7', '7'],
    ['5,6,7,8', '8'],
  ] as const) {
    const initiator = await Initiator.connect(address);
    const mutual = randomBytes(16);
    t.is(hex(await chapLogin(initiator, { user: 'alice', secret: 'a secret of alice', algorithms, mutual })), '0x0000');
    t.is(initiator.agreed.get('CHAP_A'), chosen);
    t.is(initiator.agreed.get('CHAP_N'), 'zow');
    const hash = { 5: 'md5', 6: 'sha1', 7: 'sha256', 8: 'sha3-256' }[chosen];
    const proof = chapResponse(hash, 7, 'who the target is', mutual);
    t.is(initiator.agreed.get('CHAP_R'), `0x${proof.toString('hex')}`);
    t.is(hex(await initiator.login({ target: vm0 })), '0x0000');
    await initiator.settle();
    initiator.destroy();
  }
});

test('who cannot prove who it is does not get in', async (t) => {
  const { address, server } = await serve(t, { listener: { chap: { users } } });
  const wrong = [
    { user: 'alice', secret: 'not her secret!!' },
    { user: 'mallory', secret: 'a secret of alice' },
    { user: 'alice', secret: 'a secret of alice', algorithms: '1,2' },
    { user: 'alice', secret: 'a secret of alice', mutual: Buffer.alloc(16) },
  ];
  for (const attempt of wrong) {
    const initiator = await Initiator.connect(address);
    t.is(hex(await chapLogin(initiator, attempt)), '0x0201', JSON.stringify(attempt));
    await initiator.ended();
  }
  const around = await Initiator.connect(address);
  t.is(hex(await around.login({ target: vm0 })), '0x0201', 'straight to the operational stage');
  const impatient = await Initiator.connect(address);
  const answer = await impatient.loginRequest(Flag.TRANSIT | Stage.FULL_FEATURE, [
    ...impatient.identity({ target: vm0 }),
    ['AuthMethod', 'CHAP'],
  ]);
  t.is(answer.flags & Flag.TRANSIT, 0, 'straight to the end');
  impatient.destroy();
  const none = await Initiator.connect(address);
  t.is(hex(await none.login({})), '0x0201', 'discovery is not free either');
  t.is(server.metrics.logins.succeeded, 0);
});

test('a target does not answer its own challenge', (t) => {
  const fixed = (bytes: number) => Buffer.alloc(bytes, 9);
  const chap = new Chap({ users, mutual: { name: 'zow', secret: 'who the target is' } }, fixed);
  chap.step(new Map([['CHAP_A', '7']]));
  const response = chapResponse('sha256', 9, 'a secret of alice', fixed(32)).toString('hex');
  const keys = new Map([
    ['CHAP_N', 'alice'],
    ['CHAP_R', `0x${response}`],
    ['CHAP_I', '1'],
    ['CHAP_C', `0x${fixed(32).toString('hex')}`],
  ]);
  t.throws(() => chap.step(keys), { message: /own challenge|target's challenge/ });
});

test("secrets come from files that are their owner's alone", async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'zow-chap-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = (name: string, text: string, mode = 0o600) => {
    const full = path.join(directory, name);
    writeFileSync(full, text, { mode });
    chmodSync(full, mode);
    return full;
  };
  const good = file('users', 'alice: a secret of alice\nbob: "another secret!!"\n');
  t.deepEqual(await loadChap({ users: good }), { users });
  const own = file('own', 'zow: who the target is\n');
  t.deepEqual((await loadChap({ users: good, mutual: own })).mutual, { name: 'zow', secret: 'who the target is' });
  const refused: [string, RegExp][] = [
    [file('open', 'alice: a secret of alice\n', 0o640), /must have mode 0600, not 0640/],
    [file('short', 'alice: short\n'), /the secret of alice must have 12 to 255 bytes, not 5/],
    [file('number', 'alice: 123456789012\n'), /must be a text; put it in quotes/],
    [file('list', '- alice\n'), /must be a mapping/],
    [file('broken', 'alice: [a secret of alice\n'), /is not valid YAML at \d+: EINVAL$/],
    [path.join(directory, 'missing'), /reading .*missing: ENOENT/],
    [directory, /is no file|EISDIR|must have mode/],
  ];
  for (const [users, message] of refused) await t.throwsAsync(loadChap({ users }), { message });
  await t.throwsAsync(loadChap({ users: good, mutual: good }), { message: /one name and secret/ });
  const same = file('same', 'zow: a secret of alice\n');
  await t.throwsAsync(loadChap({ users: good, mutual: same }), { message: /also that of a user/ });
});

test('a listener that others reach needs chap, or to be told so', (t) => {
  t.throws(() => checkIscsiListener({ listen: '0.0.0.0:3260' }), { message: /can be reached from the network/ });
  t.throws(() => checkIscsiListener({ listen: 'nowhere' }), { message: /is not host:port/ });
  t.notThrows(() => checkIscsiListener({ listen: '0.0.0.0:3260', chap: { users } }));
  t.notThrows(() => checkIscsiListener({ listen: '0.0.0.0:3260', allowRemote: true }));
  t.notThrows(() => checkIscsiListener({ listen: '[::1]:3260' }));
});

test('the same initiator again: its former session is over first', async (t) => {
  const { address, provider } = await serve(t);
  const first = await Initiator.open(address, vm0);
  await first.settle();
  let release = () => {};
  provider.volumes.get('tank/vm0')!.hook = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const write = Buffer.alloc(10);
  write[0] = 0x2a;
  write[8] = 1;
  first.sendCommand(write, { write: Buffer.alloc(512, 1) });
  await until(
    () => provider.volumes.get('tank/vm0')!.calls.write === 0 && release.toString() !== '() => {}',
    'the write runs',
  );
  const second = await Initiator.connect(address);
  const login = second.login({ target: vm0 });
  await first.ended();
  const early = await Promise.race([login, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))]);
  t.is(early, 'waits');
  provider.volumes.get('tank/vm0')!.hook = undefined;
  release();
  t.is(await login, 0);
  await second.settle();
  const third = await Initiator.open(address, vm0, { isid: '800000000002' });
  await third.settle();
  t.false(second.closed, 'another ISID is another session');
  second.destroy();
  third.destroy();
});

test("a header of every length that lies ends its connection, and nobody else's", async (t) => {
  const { open, address, server } = await serve(t);
  const good = await open();
  for (const length of [0xffffff, 300_000, 8193]) {
    const initiator = await Initiator.connect(address);
    const bhs = Buffer.alloc(BHS_BYTES);
    bhs[0] = 0x43;
    bhs.writeUIntBE(length, 5, 3);
    initiator.socket.write(bhs);
    await initiator.ended();
  }
  t.is(server.metrics.connections.protocolErrors, 3);
  t.is((await good.command(Buffer.alloc(6))).status, 0);
});
