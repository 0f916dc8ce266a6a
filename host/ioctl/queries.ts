import type { Inspector } from '../core/dev-zfs.ts';
import type { Device } from '../devices/device.ts';
import { REMOTE_FOLDER } from '../devices/remote.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { emptyPacked, withString } from '../nvlist/packed.ts';
import { InspectError } from '../observe/inspect-error.ts';
import { clearKstats, packedKstats } from '../observe/kstats.ts';
import { setTunable } from '../observe/tunables.ts';
import { type Query, QueryKind } from './protocol.ts';

/** Does what a QUERY frame asks for: the packed nvlists of its ITEM frames. Rejects with ErrnoError. */
export async function* answer(inspector: Inspector, { kind, text }: Query): AsyncGenerator<Uint8Array> {
  if (text.includes('\0')) throw new InspectError(Errno.EINVAL, 'a NUL character in a query');
  switch (kind) {
    case QueryKind.kstats:
      yield* packedKstats(inspector, text);
      return;
    case QueryKind.kstatClear:
      await clearKstats(inspector, text);
      return;
    case QueryKind.tunables:
      yield await inspector.tunables();
      return;
    case QueryKind.tunableSet: {
      const equals = text.indexOf('=');
      if (equals < 1) throw new InspectError(Errno.EINVAL, 'a tunable is set with name=value');
      await setTunable(inspector, text.slice(0, equals), text.slice(equals + 1));
      return;
    }
    case QueryKind.status:
      if (inspector.status === undefined) throw new InspectError(Errno.ENOTTY, 'a host of one core has no status');
      yield withString(emptyPacked, 'json', await inspector.status());
      return;
    case QueryKind.live:
      if (inspector.live === undefined) throw new InspectError(Errno.ENOTTY, 'nothing is counted here');
      yield withString(emptyPacked, 'json', await inspector.live());
      return;
    case QueryKind.difference:
      if (inspector.difference === undefined) throw new InspectError(Errno.ENOTTY, 'this host has no configuration');
      yield withString(emptyPacked, 'json', await inspector.difference(text));
      return;
    case QueryKind.volume:
      if (inspector.locate === undefined) throw new InspectError(Errno.ENOTTY, 'no volumes are served here');
      yield withString(emptyPacked, 'json', await inspector.locate(text).catch(refuse));
      return;
    case QueryKind.disk:
      yield* lookAt(inspector, text);
      return;
    default:
      throw new InspectError(Errno.ENOTTY, `there is no query ${kind}`);
  }
}

function refuse(error: unknown): never {
  // The sentence, without the name of its number.
  throw new InspectError(errnoOf(error), (error as Error).message.replace(/: E[A-Z]+$/, ''));
}

/** Label 0 and 1 and the boot block begin a disk, label 2 and 3 end it; other file systems have their signatures there too. */
const HEAD_BYTES = 4 << 20;
const TAIL_BYTES = 1 << 20;
/** Of one ITEM, beside its offset. */
const PIECE_BYTES_MAX = 1 << 20;

/** The size of a remote disk, then each piece of its ends behind its offset. All 64 bits, little-endian. */
async function* lookAt(inspector: Inspector, name: string): AsyncGenerator<Uint8Array> {
  let device: Device;
  try {
    if (inspector.openRemote === undefined) throw new ErrnoError(Errno.ENOENT, 'this host has no remote disks');
    device = await inspector.openRemote(REMOTE_FOLDER + name);
  } catch (error) {
    throw new InspectError(errnoOf(error), (error as Error).message);
  }
  try {
    const size = await device.size();
    yield u64(size);
    const tail = Math.max(HEAD_BYTES, size - TAIL_BYTES);
    for (let offset = 0; offset < size; offset += PIECE_BYTES_MAX) {
      if (offset >= HEAD_BYTES && offset < tail) offset = tail;
      const piece = new Uint8Array(Math.min(PIECE_BYTES_MAX, size - offset));
      await fill(device, piece, offset);
      yield Buffer.concat([u64(offset), piece]);
    }
  } catch (error) {
    throw new InspectError(errnoOf(error), (error as Error).message);
  } finally {
    await device.close();
  }
}

async function fill(device: Device, buffer: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const count = await device.read(buffer.subarray(done), offset + done);
    if (count === 0) throw new ErrnoError(Errno.EIO, `${device.name} ends at ${offset + done}`);
    done += count;
  }
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
