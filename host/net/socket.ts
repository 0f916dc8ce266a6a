import type net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { assert } from '../assert.ts';
import { type Handled, type Inlet, readInto } from './onread.ts';
import type { Wire, WireSink } from './wire.ts';

/** A wire over a socket; `attach` decides how bytes come in. */
class SocketWire implements Wire {
  readonly peer: string;
  readonly socket: net.Socket;
  readonly lingerMs: number;
  readonly #inlet: Inlet | undefined;
  #done: (() => void) | undefined;
  #ending = false;
  #attached = true;
  #closed = false;
  readonly #written = () => {
    const done = this.#done;
    this.#done = undefined;
    done?.();
  };

  /** `lingerMs`: see ClientLimits (host/volumes/limits.ts). */
  constructor(socket: net.Socket, peer: string, lingerMs: number, inlet?: Inlet) {
    this.socket = socket;
    this.#inlet = inlet;
    this.peer = peer;
    this.lingerMs = lingerMs;
  }

  get progress(): number {
    const waiting = (this.socket as Handled)._handle?.writeQueueSize ?? 0;
    return this.socket.bytesRead + this.socket.bytesWritten - waiting;
  }

  attach(sink: WireSink): void {
    const { socket } = this;
    let failure: Error | undefined;
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('end', () => {
      if (!this.#ending && this.#attached) sink.ended();
    });
    socket.on('close', () => {
      if (!this.#attached) return;
      this.#closed = true;
      this.#written(); // the descriptor is closed: nothing reads the pieces, whether or not they were sent
      sink.closed(failure);
    });
  }

  /** Another wire over the same socket takes over. */
  detach(): void {
    this.#attached = false;
  }

  write(pieces: readonly Uint8Array[], done: () => void): void {
    assert(this.#done === undefined, 'a wire writes two batches at once');
    if (this.#closed) {
      done();
      return;
    }
    this.#done = done;
    const { socket } = this;
    if (socket.destroyed) return; // 'close' is still to come, and calls it
    if (pieces.length === 1) {
      socket.write(pieces[0]!, this.#written);
      return;
    }
    socket.cork();
    const last = pieces.length - 1;
    for (let i = 0; i < last; i++) socket.write(pieces[i]!);
    socket.write(pieces[last]!, this.#written);
    socket.uncork();
  }

  pause(): void {
    this.socket.pause();
    this.#inlet?.choose();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.#ending = true;
    const { socket } = this;
    socket.end();
    socket.resume(); // see the client's end; what else comes is dropped
    const timer = setTimeout(() => socket.destroy(), this.lingerMs);
    socket.once('close', () => clearTimeout(timer));
    socket.once('end', () => socket.destroy());
    if (socket.readableEnded) socket.once('finish', () => socket.destroy());
  }

  destroy(): void {
    this.socket.destroy();
  }

  take(): net.Socket {
    this.detach();
    // Or this wire's owner, who takes no more, would stop it.
    this.socket.removeAllListeners('data');
    this.socket.pause();
    return this.socket;
  }
}

/** Wire over a socket that delivers in chunks of its own: TLS, and where direct reading is not available. */
export function streamWire(socket: net.Socket | TLSSocket, sink: WireSink, peer: string, lingerMs: number): Wire {
  const wire = new SocketWire(socket, peer, lingerMs);
  wire.attach(sink);
  socket.on('data', (chunk: Buffer) => {
    if (!sink.received(chunk, chunk.length)) socket.pause();
  });
  socket.pause();
  return wire;
}

/** Wire over an accepted, paused socket that reads straight into the sink's windows where Node lets it. */
export function acceptedWire(accepted: net.Socket, sink: WireSink, peer: string, lingerMs: number): Wire {
  const inlet = readInto(accepted, {
    window: () => sink.window(),
    received: (length, { bytes }) => sink.received(bytes as Buffer, length),
  });
  if (inlet === undefined) return streamWire(accepted, sink, peer, lingerMs);
  const wire = new SocketWire(inlet.socket, peer, lingerMs, inlet);
  wire.attach(sink);
  return wire;
}

/** Continues on TLS over an accepted wire: what `upgrade` makes of its socket replaces it. */
export async function securedWire(
  wire: Wire,
  sink: WireSink,
  upgrade: (socket: net.Socket) => Promise<TLSSocket>,
): Promise<Wire> {
  if (!(wire instanceof SocketWire)) throw new Error('TLS over something that is not a socket');
  const secured = await upgrade(wire.socket);
  wire.detach();
  return streamWire(secured, sink, wire.peer, wire.lingerMs);
}
