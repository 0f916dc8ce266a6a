import type { BufferPool, VolumeHandle } from '../volumes/volume.ts';
import { CmdFlag } from './constants.ts';
import { statusPayload } from './reply.ts';
import type { Request } from './request.ts';

/** Piece in which CACHE reads when the volume has no prefetch of its own, bytes. */
const CACHE_PIECE_BYTES = 1 << 20;

const plain = { fua: false } as const;
const durable = { fua: true } as const;

export function fuaOf(request: Request): { readonly fua: boolean } {
  return (request.flags & CmdFlag.FUA) !== 0 ? durable : plain;
}

export function zeroOf(request: Request): { readonly fua: boolean; readonly allocate: boolean } {
  return { fua: (request.flags & CmdFlag.FUA) !== 0, allocate: (request.flags & CmdFlag.NO_HOLE) !== 0 };
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
