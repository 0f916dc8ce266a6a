import { readFile } from 'node:fs/promises';
import { isIP, type Socket } from 'node:net';
import tls from 'node:tls';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { ProtocolError } from './errors.ts';

/**
 * TLS of one listener: certificates, pre-shared keys, or both. Paths of PEM files, and of a file made by `psktool`.
 * Without pre-shared keys TLS 1.2 and 1.3 are spoken, with them 1.2 only.
 */
export interface TlsConfig {
  /** `required`: clients must STARTTLS before anything else. `optional`: they may. */
  readonly mode: 'required' | 'optional';
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  /** Clients must show a certificate this authority signed. */
  readonly clientAuthority?: string | undefined;
  /** Lines of `identity:hex key`. */
  readonly psk?: string | undefined;
}

/** How long a TLS handshake may take is bounded by the connection's handshake timer. */
export type TlsUpgrade = (socket: Socket) => Promise<tls.TLSSocket>;

/** Suites with pre-shared keys; Node's default list excludes them all. */
const PSK_CIPHERS = [
  'ECDHE-PSK-CHACHA20-POLY1305',
  'ECDHE-PSK-AES256-CBC-SHA384',
  'ECDHE-PSK-AES128-CBC-SHA256',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-AES128-GCM-SHA256',
  'DHE-PSK-CHACHA20-POLY1305',
  'PSK-AES256-GCM-SHA384',
  'PSK-AES128-GCM-SHA256',
].join(':');

/** Beside them, for clients with certificates: ephemeral keys and authenticated encryption only. */
const CERTIFICATE_CIPHERS = 'ECDHE+AESGCM:ECDHE+CHACHA20';

/**
 * Reads keys and certificates and returns what turns an accepted socket into a TLS one. The returned function rejects
 * when the client does not prove what is asked of it.
 * @throws ErrnoError naming the file that cannot be used.
 */
export async function loadTls(config: TlsConfig): Promise<TlsUpgrade> {
  const options = await contextOptions(config);
  return (socket) =>
    new Promise((resolve, reject) => {
      // A tls.Server that never listens does the server's side of one handshake, client authentication included.
      const server = tls.createServer(options);
      const gone = () => reject(new ErrnoError(Errno.ECONNRESET, 'TLS handshake'));
      socket.once('close', gone);
      server.once('secureConnection', (secured) => {
        socket.off('close', gone);
        resolve(secured);
      });
      server.once('tlsClientError', (error: Error & { reason?: string }) =>
        reject(new ProtocolError(`TLS handshake: ${error.reason ?? error.message}`)),
      );
      server.emit('connection', socket);
    });
}

async function contextOptions(config: TlsConfig): Promise<tls.TlsOptions> {
  if ((config.certificate === undefined) !== (config.key === undefined)) {
    throw new ErrnoError(Errno.EINVAL, 'tls: certificate and key belong together');
  }
  if (config.certificate === undefined && config.psk === undefined) {
    throw new ErrnoError(Errno.EINVAL, 'tls: neither a certificate nor pre-shared keys are given');
  }
  const [cert, key, ca] = await Promise.all([load(config.certificate), load(config.key), load(config.clientAuthority)]);
  const keys =
    config.psk === undefined ? undefined : parsePsk(config.psk, (await load(config.psk))!.toString('latin1'));
  const options: tls.TlsOptions = {
    minVersion: 'TLSv1.2',
    ...(cert && { cert }),
    ...(key && { key }),
    ...(ca && { ca, requestCert: true, rejectUnauthorized: true }),
    ...(keys && {
      ciphers: cert === undefined ? PSK_CIPHERS : `${PSK_CIPHERS}:${CERTIFICATE_CIPHERS}`,
      pskCallback: (_socket, identity) => keys.get(identity) ?? null,
      // In TLS 1.3 a key is tied to a hash, and a server that has a certificate insists on it: clients that only have a
      // key (libnbd, qemu, all through GnuTLS) then fail. In 1.2 the suite decides which of both is used.
      maxVersion: 'TLSv1.2',
    }),
  };
  try {
    tls.createServer(options).close();
  } catch (error) {
    throw new ErrnoError(Errno.EINVAL, `tls: ${(error as Error).message}`, { cause: error });
  }
  return options;
}

async function load(path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path);
  } catch (error) {
    throw new ErrnoError(errnoOf(error), `tls: reading ${path}`, { cause: error });
  }
}

/** `identity:hex key` a line; `#` begins a comment. */
function parsePsk(path: string, text: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const match = /^([^:]+):((?:[0-9a-f]{2})+)\s*$/i.exec(line);
    if (match === null) throw new ErrnoError(Errno.EINVAL, `tls: ${path}, line ${index + 1}: not "identity:hex key"`);
    keys.set(match[1]!, Buffer.from(match[2]!, 'hex'));
  }
  if (keys.size === 0) throw new ErrnoError(Errno.EINVAL, `tls: ${path} holds no key`);
  return keys;
}

/** TLS towards a server. Paths of PEM files; `psk` of a file made by `psktool` with one identity in it. */
export interface TlsClientConfig {
  /** The authority that signed the server's certificate. Default: those that Node trusts. */
  readonly authority?: string | undefined;
  /** What the server's certificate is for. Default: the host that is connected to. */
  readonly serverName?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly psk?: string | undefined;
}

/** Makes a connected socket a TLS one; rejects when the server does not prove who it is. */
export type TlsClientUpgrade = (socket: Socket) => Promise<tls.TLSSocket>;

/**
 * Reads keys and certificates for connections to `host`, and returns what does the client's side of a handshake. How long
 * one may take is the caller's to bound, by destroying the socket.
 * @throws ErrnoError naming the file that cannot be used.
 */
export async function loadClientTls(config: TlsClientConfig, host: string | undefined): Promise<TlsClientUpgrade> {
  const [ca, cert, key] = await Promise.all([load(config.authority), load(config.certificate), load(config.key)]);
  const servername = config.serverName ?? host;
  const options: tls.ConnectionOptions = {
    minVersion: 'TLSv1.2',
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(servername !== undefined && isIP(servername) === 0 && { servername }),
    // Node takes the name that is checked from `host` where there is no servername: an address is none.
    ...(servername !== undefined && { host: servername }),
    ...(config.psk !== undefined && (await clientPsk(config.psk))),
  };
  try {
    tls.createSecureContext(options);
  } catch (error) {
    throw new ErrnoError(Errno.EINVAL, `tls: ${(error as Error).message}`, { cause: error });
  }
  return (socket) =>
    new Promise((resolve, reject) => {
      const secured = tls.connect({ ...options, socket });
      const failed = (error: Error & { reason?: string }) =>
        reject(new ProtocolError(`TLS handshake: ${error.reason ?? error.message}`));
      const gone = () => failed(new ErrnoError(Errno.ECONNRESET, 'closed'));
      secured.once('error', failed);
      secured.once('close', gone);
      secured.once('secureConnect', () => {
        secured.off('error', failed);
        secured.off('close', gone);
        resolve(secured);
      });
    });
}

async function clientPsk(path: string): Promise<tls.ConnectionOptions> {
  const keys = [...parsePsk(path, (await load(path))!.toString('latin1'))];
  if (keys.length !== 1) {
    throw new ErrnoError(Errno.EINVAL, `tls: ${path} has ${keys.length} identities; a client's file has its own only`);
  }
  const [identity, psk] = keys[0]!;
  return {
    ciphers: PSK_CIPHERS,
    maxVersion: 'TLSv1.2',
    pskCallback: () => ({ identity, psk }),
    // The key proves both sides; there is no certificate.
    checkServerIdentity: () => undefined,
  };
}
