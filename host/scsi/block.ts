import type { IoBuffer, VolumeHandle } from '../volumes/volume.ts';
import { byteCheck, type Command, isFua, isUnmap } from './cdb.ts';
import { Asc, SenseKey } from './constants.ts';
import type { Geometry, TransferLimits } from './geometry.ts';
import { illegal, invalidParameter, lbaOutOfRange, SenseError } from './sense.ts';

/** Piece in which zeroes are written that keep their space, bytes: a task that is aborted stops there. */
const ZERO_PIECE_BYTES = 64 << 20;
/** PRE-FETCH reads so much at the most, which it may (SBC-3, 5.10): the cache is for all. */
const PREFETCH_BYTES_MAX = 64 << 20;
/** Descriptors in one answer to GET LBA STATUS: 64 KiB. */
const STATUS_DESCRIPTORS_MAX = 4096;

/** A command on the medium, valid and with all its data. */
export interface BlockTask {
  readonly handle: VolumeHandle;
  readonly geometry: Geometry;
  readonly limits: TransferLimits;
  readonly command: Command;
  /** As many bytes as `sizesOf` said; undefined where that is 0. */
  readonly buffer: IoBuffer | undefined;
  /** Writes are to be durable one by one: the write cache is off. */
  readonly writeThrough: boolean;
  /** Aborted: what takes long stops, for nobody will read its answer. */
  readonly signal: AbortSignal;
}

/** A part of a buffer: lent with the whole, and released with it. */
function part(buffer: IoBuffer, start: number, end: number): IoBuffer {
  return {
    bytes: buffer.bytes.subarray(start, end),
    lend: () => buffer.lend(),
    giveBack: () => buffer.giveBack(),
    release: () => {},
  };
}

/** Carries out a command on the medium. Parameter data, where it has some; of READ they are in the buffer. */
export async function runBlock(task: BlockTask): Promise<Buffer | undefined> {
  const { handle, command, geometry, buffer } = task;
  const at = command.lba * geometry.blockBytes;
  const bytes = command.blocks * geometry.blockBytes;
  const fua = task.writeThrough || isFua(command);
  switch (command.spec.verb) {
    case 'read':
      if (bytes > 0) await handle.read(at, buffer!);
      return undefined;
    case 'write':
      if (bytes > 0) await handle.write(at, buffer!, { fua });
      return undefined;
    case 'orWrite':
      if (bytes > 0) await handle.orWrite(at, buffer!, { fua });
      return undefined;
    case 'compareWrite': {
      const differs = bytes > 0 ? await handle.compareWrite(at, buffer!, { fua }) : undefined;
      if (differs !== undefined) throw miscompare(differs);
      return undefined;
    }
    case 'writeVerify':
      if (bytes > 0) await writeVerify(task, at);
      return undefined;
    case 'verify':
      if (bytes > 0) await verify(task, at, bytes);
      return undefined;
    case 'writeSame':
      await writeSame(task, at, bytes, fua);
      return undefined;
    case 'synchronize':
      await handle.flush();
      return undefined;
    case 'prefetch':
      await prefetch(task, at);
      return undefined;
    case 'unmap':
      await unmap(task);
      return undefined;
    case 'lbaStatus':
      return lbaStatus(task);
    default:
      throw new Error(`${command.spec.verb} is not a command on the medium`);
  }
}

function miscompare(information: number): SenseError {
  return new SenseError({ key: SenseKey.MISCOMPARE, asc: Asc.MISCOMPARE_DURING_VERIFY, information });
}

/** Position of the first byte that differs, -1 where none does. */
function difference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  return a.findIndex((byte, i) => byte !== b[i]);
}

/** Made durable and read again: what is compared has been through the checksums. */
async function writeVerify({ handle, buffer, command }: BlockTask, at: number): Promise<void> {
  await handle.write(at, buffer!, { fua: true });
  if (byteCheck(command) === 1) return compare(handle, at, buffer!);
  await handle.read(at, buffer!);
}

async function compare(handle: VolumeHandle, at: number, buffer: IoBuffer): Promise<void> {
  const differs = await handle.compare(at, buffer);
  if (differs !== undefined) throw miscompare(differs);
}

async function verify(task: BlockTask, at: number, bytes: number): Promise<void> {
  const { handle, geometry, buffer, command, signal } = task;
  const check = byteCheck(command);
  if (check === 1) return compare(handle, at, buffer!);
  const { blockBytes } = geometry;
  const start = check === 3 ? blockBytes : 0;
  const block = buffer!.bytes.subarray(0, start);
  const room = buffer!.bytes.length - start;
  for (let done = 0; done < bytes; done += room) {
    signal.throwIfAborted();
    const found = part(buffer!, start, start + Math.min(room, bytes - done));
    await handle.read(at + done, found);
    for (let i = 0; i < found.bytes.length && check === 3; i += blockBytes) {
      const differs = difference(block, found.bytes.subarray(i, i + blockBytes));
      if (differs !== -1) throw miscompare(done + i + differs);
    }
  }
}

async function writeSame(task: BlockTask, at: number, bytes: number, fua: boolean): Promise<void> {
  const { handle, geometry, buffer, command } = task;
  const block = buffer?.bytes.subarray(0, geometry.blockBytes);
  if (block === undefined || block.every((byte) => byte === 0)) {
    return zero(task, at, bytes, isUnmap(command), fua);
  }
  const pattern = buffer!.bytes;
  for (let i = geometry.blockBytes; i < pattern.length; i *= 2) pattern.copyWithin(i, 0, i);
  for (let done = 0; done < bytes; done += pattern.length) {
    task.signal.throwIfAborted();
    const length = Math.min(pattern.length, bytes - done);
    // The last one makes those before it durable, too.
    await handle.write(at + done, part(buffer!, 0, length), { fua: fua && done + length === bytes });
  }
}

async function zero({ handle, signal }: BlockTask, at: number, bytes: number, frees: boolean, fua: boolean) {
  const piece = frees ? bytes : ZERO_PIECE_BYTES;
  for (let done = 0; done < bytes; done += piece) {
    signal.throwIfAborted();
    const length = Math.min(piece, bytes - done);
    await handle.zero(at + done, length, { fua: fua && done + length === bytes, allocate: !frees });
  }
}

async function prefetch({ handle, geometry, command, buffer, signal }: BlockTask, at: number): Promise<void> {
  // No blocks: all from there on.
  const wanted = (command.blocks || geometry.blocks - command.lba) * geometry.blockBytes;
  const bytes = Math.min(wanted, PREFETCH_BYTES_MAX);
  if (handle.prefetch !== undefined) return handle.prefetch(at, bytes);
  const room = buffer!.bytes.length;
  for (let done = 0; done < bytes && !signal.aborted; done += room) {
    await handle.read(at + done, part(buffer!, 0, Math.min(room, bytes - done)));
  }
}

/** SBC-3 5.28: what is not a whole block of the volume is written as zeroes, so that all of it reads as zeroes. */
async function unmap(task: BlockTask): Promise<void> {
  const { handle, geometry, limits, buffer, signal, writeThrough } = task;
  if (buffer === undefined) return;
  const list = Buffer.from(buffer.bytes);
  if (list.length < 8) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
  const descriptorBytes = list.readUInt16BE(2);
  if (descriptorBytes % 16 !== 0 || 8 + descriptorBytes > list.length) throw new SenseError(invalidParameter(2));
  if (descriptorBytes / 16 > limits.unmapDescriptors) throw new SenseError(invalidParameter(2));
  const ranges: { at: number; bytes: number }[] = [];
  let total = 0;
  for (let i = 8; i < 8 + descriptorBytes; i += 16) {
    const lba = list.readUInt32BE(i) * 0x1_0000_0000 + list.readUInt32BE(i + 4);
    const blocks = list.readUInt32BE(i + 8);
    if (lba + blocks > geometry.blocks) throw new SenseError(lbaOutOfRange);
    total += blocks * geometry.blockBytes;
    if (total > limits.unmapBytes) throw new SenseError(invalidParameter(i + 8));
    if (blocks > 0) ranges.push({ at: lba * geometry.blockBytes, bytes: blocks * geometry.blockBytes });
  }
  for (const [index, range] of ranges.entries()) {
    signal.throwIfAborted();
    const fua = writeThrough && index === ranges.length - 1;
    await handle.zero(range.at, range.bytes, { fua, allocate: false });
  }
}

/** SBC-3 5.6: mapped, or deallocated. A logical block that is only partly a hole is mapped. */
async function lbaStatus({ handle, geometry, command }: BlockTask): Promise<Buffer> {
  const { blockBytes } = geometry;
  const wanted = Math.floor((Math.max(command.allocation, 24) - 8) / 16);
  const descriptorsMax = Math.min(Math.max(1, wanted), STATUS_DESCRIPTORS_MAX);
  const runs: { lba: number; blocks: number; hole: boolean }[] = [];
  const start = command.lba * blockBytes;
  const end = geometry.blocks * blockBytes;
  let at = start;
  for (const extent of (await handle.blockStatus?.(start, end - start)) ?? [{ length: end - start, hole: false }]) {
    const next = Math.min(end, at + extent.length);
    // A hole begins at the next whole block, and ends with the last one.
    const from = extent.hole ? Math.ceil(at / blockBytes) : Math.floor(at / blockBytes);
    const to = extent.hole ? Math.floor(next / blockBytes) : Math.ceil(next / blockBytes);
    at = next;
    addRun(runs, from, to, extent.hole);
    if (runs.length > descriptorsMax) break;
  }
  if (runs.length === 0) runs.push({ lba: command.lba, blocks: geometry.blocks - command.lba, hole: false });
  const kept = runs.slice(0, descriptorsMax);
  const bytes = Buffer.alloc(8 + 16 * kept.length);
  bytes.writeUInt32BE(bytes.length - 4, 0);
  for (const [i, run] of kept.entries()) {
    bytes.writeBigUInt64BE(BigInt(run.lba), 8 + 16 * i);
    bytes.writeUInt32BE(Math.min(run.blocks, 0xffff_ffff), 16 + 16 * i);
    bytes[20 + 16 * i] = run.hole ? 1 : 0;
    if (run.blocks > 0xffff_ffff) return bytes.subarray(0, setLength(bytes, 8 + 16 * (i + 1))); // what follows would not be adjacent
  }
  return bytes;
}

function setLength(bytes: Buffer, length: number): number {
  bytes.writeUInt32BE(length - 4, 0);
  return length;
}

/** Appends blocks `from` to `to`, without those that are there already, joined to the last run where it is alike. */
function addRun(runs: { lba: number; blocks: number; hole: boolean }[], from: number, to: number, hole: boolean): void {
  const last = runs.at(-1);
  const first = last === undefined ? from : last.lba + last.blocks;
  if (last !== undefined && first < from) last.blocks += from - first; // partly a hole: mapped, as what is before it
  const lba = Math.max(first, from);
  if (to <= lba) return;
  if (last !== undefined && last.hole === hole) last.blocks += to - lba;
  else runs.push({ lba, blocks: to - lba, hole });
}
