import net from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import type { AttachmentRecord, KeeperStatus } from './record.ts';

/** What a keeper is asked: a line of JSON on its socket, which is answered with one. */
export type ControlRequest =
  /** Waits until the volume is attached. */
  { readonly ask: 'attached' } | { readonly ask: 'status' } | { readonly ask: 'detach'; readonly force: boolean };

export type ControlAnswer =
  | { readonly record: AttachmentRecord; readonly status: KeeperStatus }
  /** It ends. */
  | { readonly detached: true }
  /** A sentence. */
  | { readonly error: string };

const LINE_BYTES_MAX = 64 << 10;

/** Answers requests until the server is closed. */
export async function serveControl(
  path: string,
  answer: (request: ControlRequest) => Promise<ControlAnswer>,
): Promise<net.Server> {
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    readLine(socket)
      .then(async (line) => {
        const reply = await answer(JSON.parse(line) as ControlRequest).catch(
          (error: unknown): ControlAnswer => ({ error: sentence(error) }),
        );
        socket.end(`${JSON.stringify(reply)}\n`);
      })
      .catch(() => socket.destroy());
  });
  // Never there with another mode; its folder is private as well.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
  return server;
}

/** Asks the keeper. Undefined: there is none. Rejects with ErrnoError when it ends without an answer. */
export async function askKeeper(path: string, request: ControlRequest): Promise<ControlAnswer | undefined> {
  const socket = net.connect(path);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    throw error;
  }
  socket.on('error', () => undefined);
  socket.write(`${JSON.stringify(request)}\n`);
  try {
    return JSON.parse(await readLine(socket)) as ControlAnswer;
  } finally {
    socket.destroy();
  }
}

function readLine(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
      else if (text.length > LINE_BYTES_MAX) reject(new ErrnoError(Errno.EPROTO, 'a line without an end'));
    });
    socket.on('close', () => reject(new ErrnoError(Errno.ECONNRESET, 'the keeper ended without an answer')));
  });
}

/** Of an error: what a person reads, without the name of its number. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message.replace(/: E[A-Z]+$/, '') : String(error);
}
