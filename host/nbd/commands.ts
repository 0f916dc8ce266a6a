import { CmdFlag } from '../protocols/nbd.ts';
import type { BufferPool, VolumeHandle } from '../volumes/volume.ts';
import { statusPayload } from './reply.ts';
import type { Request } from './request.ts';

/** Piece in which CACHE reads when the volume has no prefetch of its own, bytes. */
const CACHE_PIECE_BYTES = 1 << 20;

/** Piece in which zeroes are written that keep their space, bytes: a client that goes away stops them. */
const ZERO_PIECE_BYTES = 64 << 20;

const plain = { fua: false } as const;
const durable = { fua: true } as const;

export function fuaOf(request: Request): { readonly fua: boolean } {
  return (request.flags & CmdFlag.FUA) !== 0 ? durable : plain;
}

/** WRITE_ZEROES. With NO_HOLE it takes time in proportion to the range, which may be petabytes. */
export async function zero(handle: VolumeHandle, request: Request, signal: AbortSignal): Promise<void> {
  const { fua } = fuaOf(request);
  if ((request.flags & CmdFlag.NO_HOLE) === 0) {
    return handle.zero(request.offset, request.length, { fua, allocate: false });
  }
  const end = request.offset + request.length;
  for (let at = request.offset; at < end; at += ZERO_PIECE_BYTES) {
    signal.throwIfAborted();
    const length = Math.min(ZERO_PIECE_BYTES, end - at);
    // The last one makes those before it durable, too.
    await handle.zero(at, length, { fua: fua && at + length === end, allocate: true });
  }
}

/** CACHE: the volume's own prefetch, else reading the range for nobody, which fills the same cache. */
export async function cache(
  handle: VolumeHandle,
  buffers: BufferPool,
  request: Request,
  signal: AbortSignal,
): Promise<void> {
  if (handle.prefetch !== undefined) return handle.prefetch(request.offset, request.length);
  const end = request.offset + request.length;
  const piece = Math.min(CACHE_PIECE_BYTES, buffers.maxBytes);
  for (let at = request.offset; at < end && !signal.aborted; at += piece) {
    const buffer = await buffers.acquire(Math.min(piece, end - at), signal);
    try {
      await handle.read(at, buffer);
    } finally {
      buffer.release();
    }
  }
}

/** BLOCK_STATUS: the payload of its reply. A volume that cannot tell is allocated everywhere. */
export async function statusOf(handle: VolumeHandle, request: Request, extended: boolean): Promise<Buffer> {
  const extents = (await handle.blockStatus?.(request.offset, request.length)) ?? [];
  return statusPayload(request, extents, extended, (request.flags & CmdFlag.REQ_ONE) !== 0);
}
