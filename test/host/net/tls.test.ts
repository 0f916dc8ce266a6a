import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import test from 'ava';
import type { ListenerAddress } from '../../../host/net/listener.ts';
import { loadClientTls, loadTls, type TlsClientConfig, type TlsConfig } from '../../../host/net/tls.ts';
import { BASE_ALLOCATION, Cmd, Magic, Opt, Rep } from '../../../host/protocols/nbd.ts';
import { fails } from '../devices/conformance.ts';
import { connected } from '../devices/nbd/servers.ts';
import { Client, metaData, u32 } from '../nbd/client.ts';
import { pattern, run, serve, until } from '../nbd/fixture.ts';

/** A certificate authority, a server and a client certificate it signed, a foreign client's, and keys. */
const pki = mkdtempSync(path.join(tmpdir(), 'zow-pki-'));
const file = (name: string) => path.join(pki, name);

async function authority(name: string): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'];
  const files = ['-keyout', file(`${name}-key.pem`), '-out', file(`${name}-cert.pem`)];
  await run('openssl', ['req', '-x509', ...key, ...files, '-subj', `/CN=${name}`]);
}

async function certificate(name: string, by: string): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const request = ['-keyout', file(`${name}-key.pem`), '-out', file(`${name}.csr`), '-subj', `/CN=${name}`];
  await run('openssl', ['req', ...key, ...request, '-addext', 'subjectAltName=DNS:localhost']);
  const signer = ['-CA', file(`${by}-cert.pem`), '-CAkey', file(`${by}-key.pem`), '-CAcreateserial', '-days', '30'];
  const names = ['-copy_extensions', 'copy'];
  await run('openssl', [
    'x509',
    '-req',
    '-in',
    file(`${name}.csr`),
    ...signer,
    ...names,
    '-out',
    file(`${name}-cert.pem`),
  ]);
}

test.before(async () => {
  await authority('ca');
  await authority('other-ca');
  await certificate('server', 'ca');
  await certificate('client', 'ca');
  await certificate('foreign', 'other-ca');
  // libnbd looks for fixed names in a directory
  mkdirSync(file('anonymous'));
  await run('cp', [file('ca-cert.pem'), file('anonymous')]);
  mkdirSync(file('foreign'));
  await run('cp', [file('ca-cert.pem'), file('foreign')]);
  for (const part of ['key', 'cert']) {
    await run('cp', [file(`foreign-${part}.pem`), file(`foreign/client-${part}.pem`)]);
  }
  writeFileSync(file('keys'), `# made by hand\nalice:${'0123456789abcdef'.repeat(4)}\n\nbob:00112233\n`);
  writeFileSync(file('wrong-key'), `alice:${'ff'.repeat(32)}\n`);
});
test.after.always(() => rmSync(pki, { recursive: true, force: true }));

const server: TlsConfig = { mode: 'required', certificate: file('server-cert.pem'), key: file('server-key.pem') };

function uri(address: ListenerAddress, user: string, query: string): string {
  return `nbds+unix://${user}localhost/tank/vm0?socket=${address.unix}&${query}`;
}
const size = (address: string) => run('nbdinfo', ['--size', address]).then((text) => Number(text));
const certificates = (name = '') => `tls-certificates=${path.join(pki, name)}`;
const keys = (name = 'keys') => `tls-psk-file=${file(name)}`;

test('certificates: nbdcopy both ways', async (t) => {
  const { unix, directory } = await serve(t, { listener: { tls: server } });
  const data = pattern(40 << 20);
  const image = path.join(directory, 'image');
  const back = path.join(directory, 'back');
  writeFileSync(image, data);
  const address = uri(unix, '', certificates());
  t.is(await size(address), 64 << 20);
  await run('nbdcopy', [image, address]);
  await run('nbdcopy', [address, back]);
  await run('cmp', ['-n', `${data.length}`, image, back]);
});

test('client certificates are asked for and checked', async (t) => {
  const { unix, server: nbd } = await serve(t, {
    listener: { tls: { ...server, clientAuthority: file('ca-cert.pem') } },
  });
  t.is(await size(uri(unix, '', certificates())), 64 << 20);
  await t.throwsAsync(size(uri(unix, '', certificates('anonymous'))));
  await t.throwsAsync(size(uri(unix, '', certificates('foreign'))));
  t.is(nbd.metrics.connections.protocolErrors, 2);
});

test('pre-shared keys', async (t) => {
  const { unix } = await serve(t, { listener: { tls: { mode: 'required', psk: file('keys') } } });
  t.is(await size(uri(unix, 'alice@', keys())), 64 << 20);
  await t.throwsAsync(size(uri(unix, 'alice@', keys('wrong-key'))));
  await t.throwsAsync(size(uri(unix, 'mallory@', keys())));
  await t.throwsAsync(size(uri(unix, '', certificates())));
});

test('both, and optional: everybody finds a way', async (t) => {
  const { unix, uri: plain } = await serve(t, {
    listener: { tls: { ...server, mode: 'optional', psk: file('keys') } },
  });
  t.is(await size(uri(unix, 'alice@', keys())), 64 << 20);
  t.is(await size(uri(unix, '', certificates())), 64 << 20);
  t.is(await size(plain('tank/vm0')), 64 << 20);
});

test('required: nothing without it', async (t) => {
  const { unix, uri: plain, provider } = await serve(t, { listener: { tls: server } });
  await t.throwsAsync(size(plain('tank/vm0')), { message: /requires TLS/ });
  const client = await Client.connect(unix);
  await client.greet();
  for (const option of [Opt.LIST, Opt.INFO, Opt.GO, Opt.STRUCTURED_REPLY, Opt.SET_META_CONTEXT, 99]) {
    t.is((await client.option(option)).at(-1)!.type, Rep.ERR_TLS_REQD);
  }
  t.is((await client.option(Opt.STARTTLS, Buffer.alloc(1)))[0]!.type, Rep.ERR_INVALID);
  client.sendOption(Opt.EXPORT_NAME, Buffer.from('tank/vm0'));
  t.is((await client.closed()).length, 0);
  t.is(provider.opens, 0);
});

/** STARTTLS with Node's own TLS client. */
async function secure(client: Client): Promise<Client> {
  const [reply] = await client.option(Opt.STARTTLS);
  if (reply!.type !== Rep.ACK) throw new Error(`STARTTLS: ${reply!.data}`);
  client.socket.removeAllListeners('data');
  const secured = tls.connect({ socket: client.socket, rejectUnauthorized: false });
  await new Promise<void>((resolve, reject) => {
    secured.once('secureConnect', resolve);
    secured.once('error', reject);
  });
  return new Client(secured);
}

test('what was negotiated before TLS is forgotten', async (t) => {
  const { unix } = await serve(t, { listener: { tls: { ...server, mode: 'optional' } } });
  const open = await Client.connect(unix);
  await open.greet();
  await open.negotiate('structured', 'tank/vm0');
  const client = await secure(open);
  const query = metaData('tank/vm0', BASE_ALLOCATION);
  t.is((await client.option(Opt.SET_META_CONTEXT, query))[0]!.type, Rep.ERR_INVALID, 'no structured replies');
  t.is((await client.option(Opt.STARTTLS))[0]!.type, Rep.ERR_INVALID, 'TLS in TLS');
  await client.go('tank/vm0');
  t.is((await client.readAt(0, 512)).length, 512);
  t.is((await client.request({ type: Cmd.BLOCK_STATUS, length: 512 })).errno, 22);
  client.sendRequest({ type: Cmd.DISC });
  await client.closed();
  client.destroy();
});

test('bytes slipped in behind STARTTLS end the connection', async (t) => {
  const { unix, server: nbd } = await serve(t, { listener: { tls: server } });
  const client = await Client.connect(unix);
  await client.greet();
  const option = (number: number) => Buffer.concat([u32(Magic.OPTION_HI), u32(Magic.OPTION_LO), u32(number), u32(0)]);
  client.send(Buffer.concat([option(Opt.STARTTLS), option(Opt.LIST)]));
  t.is((await client.closed()).length, 20, 'the acknowledgement, and nothing more');
  await until(() => nbd.metrics.connections.protocolErrors === 1, 'counted');
});

test('garbage instead of a TLS handshake, and none at all', async (t) => {
  const { unix, server: nbd } = await serve(t, { listener: { tls: server }, limits: { handshakeMs: 6000 } });
  const loud = await Client.connect(unix);
  const silent = await Client.connect(unix);
  const gone = await Client.connect(unix);
  for (const client of [loud, silent, gone]) {
    await client.greet();
    t.is((await client.option(Opt.STARTTLS))[0]!.type, Rep.ACK);
  }
  loud.send(Buffer.from('GET / HTTP/1.0\r\n\r\n'));
  gone.destroy();
  await Promise.all([loud.closed(), silent.closed()]);
  await until(() => nbd.connections === 0, 'all gone');
});

test('a truncated TLS stream', async (t) => {
  const { unix, server: nbd } = await serve(t, { listener: { tls: server } });
  const open = await Client.connect(unix);
  await open.greet();
  const client = await secure(open);
  await client.go('tank/vm0');
  client.sendRequest({ type: Cmd.WRITE, length: 1 << 20, payload: pattern(1000) });
  await until(() => nbd.metrics.inFlight === 1, 'write begun');
  open.socket.destroy();
  await until(() => nbd.connections === 0, 'gone');
  t.pass();
});

test('configurations that cannot work name what is wrong', async (t) => {
  writeFileSync(file('no-key'), 'alice 0123\n');
  writeFileSync(file('empty'), '\n');
  await t.throwsAsync(loadTls({ mode: 'required' }), { message: /neither a certificate nor/ });
  await t.throwsAsync(loadTls({ mode: 'required', certificate: file('server-cert.pem') }), {
    message: /belong together/,
  });
  await t.throwsAsync(loadTls({ ...server, key: file('nothing') }), { code: 'ENOENT', message: /nothing/ });
  await t.throwsAsync(loadTls({ ...server, key: file('client-key.pem') }), { code: 'EINVAL', message: /tls:/ });
  await t.throwsAsync(loadTls({ mode: 'required', psk: file('no-key') }), { message: /no-key, line 1/ });
  await t.throwsAsync(loadTls({ mode: 'required', psk: file('empty') }), { message: /holds no key/ });
});

/** A disk of ours over TLS: to the server, with what it wants. */
async function secured(unix: ListenerAddress, config: TlsClientConfig) {
  const tls = await loadClientTls(config, undefined);
  return connected({ kind: 'unix', path: unix.unix!, exportName: 'tank/vm0' }, { tls });
}

test('the client side: certificates of both, and a key', async (t) => {
  const authority = file('ca-cert.pem');
  const both = { certificate: file('client-cert.pem'), key: file('client-key.pem') };
  const { unix } = await serve(t, { listener: { tls: { ...server, clientAuthority: authority } } });
  const disk = await secured(unix, { authority, serverName: 'localhost', ...both });
  const device = disk.open();
  const data = pattern(5 << 20);
  t.is(await device.write(data, 4096), data.length);
  await device.flush();
  const back = new Uint8Array(data.length);
  t.is(await device.read(back, 4096), data.length);
  t.true(data.equals(back));
  await device.close();
  await disk.close();
  for (const [config, reason] of [
    [{ authority: file('other-ca-cert.pem'), serverName: 'localhost', ...both }, /TLS handshake: .*certificate/i],
    [{ authority, serverName: 'elsewhere', ...both }, /TLS handshake: .*elsewhere/],
    [{ authority, serverName: 'localhost' }, /./],
  ] as const) {
    const refused = await secured(unix, config);
    t.regex((await fails(t, 'ENXIO', () => refused.open())).message, reason);
    await refused.close();
  }
  const plain = await connected({ kind: 'unix', path: unix.unix!, exportName: 'tank/vm0' });
  t.regex((await fails(t, 'ENXIO', () => plain.open())).message, /requires TLS/);
  await plain.close();

  const keyed = await serve(t, { listener: { tls: { mode: 'required', psk: file('keys') } } });
  writeFileSync(file('bob'), 'bob:00112233\n');
  const bob = await secured(keyed.unix, { psk: file('bob') });
  t.is(await bob.open().size(), 64 << 20);
  await bob.close();
  const wrong = await secured(keyed.unix, { psk: file('wrong-key') });
  t.regex((await fails(t, 'ENXIO', () => wrong.open())).message, /TLS handshake/);
  await wrong.close();
  await t.throwsAsync(secured(keyed.unix, { psk: file('keys') }), { message: /has 2 identities/ });
});

test('keys are read again for connections to come; those that are wrong change nothing', async (t) => {
  const psk = file('renewed');
  writeFileSync(psk, `alice:${'ff'.repeat(32)}\n`);
  const { server: nbd, unix } = await serve(t, { listener: { tls: { mode: 'required', psk } } });
  const knows = (name: string) => size(uri(unix, 'alice@', keys(name)));
  t.is(await knows('wrong-key'), 64 << 20);
  writeFileSync(psk, 'no keys\n');
  await fails(t, 'EINVAL', () => nbd.renew());
  t.is(await knows('wrong-key'), 64 << 20);
  writeFileSync(psk, readFileSync(file('keys')));
  const renew = await nbd.renew();
  t.is(await knows('wrong-key'), 64 << 20, 'not before it is said');
  renew();
  t.is(await knows('keys'), 64 << 20);
  await t.throwsAsync(knows('wrong-key'));
});
