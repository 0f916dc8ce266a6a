import { randomUUID } from 'node:crypto';
import { existsSync, linkSync, lstatSync, renameSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { makeFolders } from '../folder.ts';
import { decodeHelloReply, encodeHello, helloReplyBytes, versionProbe } from './protocol.ts';

/** sizeof (sockaddr_un.sun_path) less its NUL. */
const pathBytesMax = 107;
const probeTimeoutMs = 2000;

/**
 * Where host and programs meet: ZOW_SOCKET, else `zow.sock` in the runtime directory, which is /run/zow for root and
 * $XDG_RUNTIME_DIR for others. Undefined when there is none. cli/src/zow_socket.c follows the same rule.
 */
export function defaultSocketPath(
  env: NodeJS.ProcessEnv = process.env,
  uid: number = process.geteuid!(),
): string | undefined {
  const given = env.ZOW_SOCKET;
  if (given !== undefined && given !== '') return given;
  if (uid === 0) return '/run/zow/zow.sock';
  const runtime = env.XDG_RUNTIME_DIR;
  return runtime !== undefined && runtime !== '' ? join(runtime, 'zow.sock') : undefined;
}

/** Somebody else holds the socket. */
export class SocketBusyError extends Error {
  /** Undefined when what listens there is not a ZoW host. */
  readonly pid: number | undefined;

  constructor(path: string, pid: number | undefined) {
    super(
      pid === undefined
        ? `${path}: another program listens on this socket`
        : `${path}: the ZoW host with pid ${pid} serves this socket`,
    );
    this.name = 'SocketBusyError';
    this.pid = pid;
  }
}

export type SocketHolder = { readonly pid: number | undefined; readonly release: string | undefined };

/**
 * Who listens at `path`: undefined when nobody does. A listener that does not answer as a ZoW host within two seconds
 * is there, without a pid.
 */
export function probeSocket(path: string): Promise<SocketHolder | undefined> {
  const unknown: SocketHolder = { pid: undefined, release: undefined };
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let answer = Buffer.alloc(0);
    let connected = false;
    const done = (holder: SocketHolder | undefined) => {
      socket.destroy();
      resolve(holder);
    };
    socket.setTimeout(probeTimeoutMs, () => done(unknown));
    socket.on('connect', () => {
      connected = true;
      const process16 = '00'.repeat(16);
      socket.write(
        encodeHello({
          version: versionProbe,
          cmdSize: 0,
          release: '',
          process: process16,
          pid: process.pid,
          fd: -1,
          attachMinor: 0,
          stdio: 0,
          program: 'zow',
        }),
      );
    });
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length < helloReplyBytes) return;
      try {
        const { pid, release } = decodeHelloReply(answer);
        done({ pid, release });
      } catch {
        done(unknown);
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (connected) done(unknown);
      else if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') done(undefined);
      // A full backlog is somebody's.
      else if (error.code === 'EAGAIN') done(unknown);
      else reject(error);
    });
    socket.on('close', () => done(connected ? unknown : undefined));
  });
}

/** Checks what can be said of a socket path before anything is done. @throws Error */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > pathBytesMax) {
    throw new Error(`${path}: a unix socket's path has at most ${pathBytesMax} bytes, this one has ${bytes}`);
  }
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && !stat.isSocket()) throw new Error(`${path}: exists and is not a socket`);
}

/** A name beside `path`, not longer than it needs to be: the limit of 107 bytes holds for it too. */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.${randomUUID().slice(0, 8)}`);
}

/**
 * Gives a listening socket, bound under a temporary name, its public one. link(2) fails when the name is taken, so
 * two hosts that start together cannot both succeed; a stale socket is moved aside before it is judged, so that a live
 * one is never removed.
 * @throws SocketBusyError when somebody listens there
 */
export async function publishSocket(temporary: string, path: string): Promise<void> {
  makeFolders(dirname(path), 0o700);
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      linkSync(temporary, path);
      unlinkSync(temporary);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    checkSocketPath(path);
    const holder = await probeSocket(path);
    if (holder !== undefined) throw new SocketBusyError(path, holder.pid);
    await removeStale(path);
  }
  throw new SocketBusyError(path, undefined);
}

async function removeStale(path: string): Promise<void> {
  const aside = temporaryBeside(path);
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  // Between our question and the rename another host may have put its own socket there.
  const holder = await probeSocket(aside);
  if (holder !== undefined && !existsSync(path)) linkSync(aside, path);
  unlinkSync(aside);
}
