import net from 'node:net';
import { patience } from '../net/patience.ts';

/** How long a connection may take to say for which volume it is. */
const HEADER_MS = 5_000;
export const RELAY_HEADER_BYTES = 4;
const RELAY_TAKEN = Buffer.from([1]);

/**
 * Where connections come in whose descriptor cannot be handed over, because the supervisor keeps a half of them: TLS.
 * Each begins with the number of the open volume it is for. One byte answers when somebody takes it: what comes after
 * that is the client's, and goes to whoever took it.
 */
export class RelayListener {
  readonly #server: net.Server;
  readonly #arrived = new Map<number, net.Socket>();
  readonly #awaited = new Map<number, (socket: net.Socket) => void>();

  private constructor(server: net.Server) {
    this.#server = server;
  }

  static listen(path: string): Promise<RelayListener> {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const listener = new RelayListener(server);
    server.on('connection', (socket) => listener.#accept(socket));
    const umask = process.umask(0o177);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => resolve(listener));
      process.umask(umask);
    });
  }

  /** The connection for an open volume; waits for it to come. Its next bytes come no earlier than the next turn. */
  take(handle: number): Promise<net.Socket> {
    const socket = this.#arrived.get(handle);
    if (socket !== undefined) {
      this.#arrived.delete(handle);
      socket.write(RELAY_TAKEN);
      return Promise.resolve(socket);
    }
    return new Promise((resolve) => this.#awaited.set(handle, resolve));
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#arrived.values()) socket.destroy();
  }

  #accept(socket: net.Socket): void {
    const wait = patience(HEADER_MS, () => socket.destroy());
    socket.on('error', () => undefined);
    const readable = (): void => {
      const header = socket.read(RELAY_HEADER_BYTES) as Buffer | null;
      if (header === null) return;
      socket.off('readable', readable);
      wait.end();
      const handle = header.readUInt32LE(0);
      const waiter = this.#awaited.get(handle);
      this.#awaited.delete(handle);
      if (waiter === undefined) {
        this.#arrived.set(handle, socket);
        return;
      }
      socket.write(RELAY_TAKEN);
      waiter(socket);
    };
    socket.on('readable', readable);
  }
}
