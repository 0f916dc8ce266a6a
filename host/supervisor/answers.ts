import type { IoctlRequest, IoctlResult } from '../core/dev-zfs.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno } from '../errno.ts';

/** Answers to ioctls that are the supervisor's own. */

const none = new Uint8Array(0);

/** An nvlist, packed, in `cmd`; ENOMEM, and how much room it takes, where there is too little. */
export function give(cmd: Buffer, request: IoctlRequest, packed: Uint8Array): IoctlResult {
  const room = Math.min(request.dstRoom, Number(cmd.readBigUInt64LE(ZfsCmd.dstSize)));
  cmd.writeBigUInt64LE(BigInt(packed.length), ZfsCmd.dstSize);
  if (packed.length > room) return { errno: Errno.ENOMEM, cmd, dst: none, history: none };
  cmd.writeInt32LE(1, ZfsCmd.dstFilled);
  return { errno: 0, cmd, dst: packed, history: none };
}

/** An errno, and nothing done. */
export function refuse(request: IoctlRequest, errno: number): IoctlResult {
  return { errno, cmd: request.cmd, dst: none, history: none };
}

/** A request's bytes are the client's, and those of an answer its own. */
export function copyOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes);
}
