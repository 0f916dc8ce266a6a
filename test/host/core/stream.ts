import type { StreamChannel } from '../../../host/core/dev-zfs.ts';
import { Errno, ErrnoError } from '../../../host/errno.ts';

/** Send streams, record by record: dmu_replay_record_t (include/sys/zfs_ioctl.h). */

export const headerBytes = 312;

export type Field = readonly [at: number, bytes: 1 | 4 | 8, value: number | bigint];

/** A record without a checksum, which none checks then. Offsets are those behind type and payload length. */
export function record(type: number, fields: readonly Field[], payload = 0): Buffer {
  const bytes = Buffer.alloc(headerBytes + payload);
  bytes.writeUInt32LE(type, 0);
  for (const [at, size, value] of fields) {
    if (size === 8) bytes.writeBigUInt64LE(BigInt(value), 8 + at);
    else if (size === 4) bytes.writeUInt32LE(Number(value), 8 + at);
    else bytes[8 + at] = Number(value);
  }
  return bytes;
}

/** dmu_replay_record_t's types and members (include/sys/zfs_ioctl.h). */
export function object(number: number, fields: readonly Field[] = [], payload = 0): Buffer {
  const file: Field[] = [
    [0, 8, number],
    [8, 4, 19], // drr_type: DMU_OT_PLAIN_FILE_CONTENTS
    [12, 4, 44], // drr_bonustype: DMU_OT_SA
    [16, 4, 512], // drr_blksz
    [26, 1, 1], // drr_dn_slots
  ];
  return record(1, [...file, ...fields], payload);
}

export function begin(features = 4n, type = 2): Buffer {
  const bytes = Buffer.alloc(304);
  bytes.writeBigUInt64LE(0x2f5bacbacn, 0);
  bytes.writeBigUInt64LE(1n | (features << 2n), 8);
  bytes.writeUInt32LE(type, 24); // DMU_OST_ZFS
  bytes.writeUInt32LE(4, 28); // DRR_FLAG_SPILL_BLOCK
  bytes.writeBigUInt64LE(77n, 32);
  bytes.write('tank/r@s', 48);
  return bytes;
}

/** The record behind these, which ends their stream with their checksum: fletcher_4. */
export function end(...records: Buffer[]): Buffer {
  return endOf(begin(), ...records);
}

export function endOf(first: Buffer, ...records: Buffer[]): Buffer {
  const words = Buffer.concat([Buffer.alloc(8), first, ...records]);
  let [a, b, c, d] = [0n, 0n, 0n, 0n];
  for (let at = 0; at < words.length; at += 4) {
    a = BigInt.asUintN(64, a + BigInt(words.readUInt32LE(at)));
    b = BigInt.asUintN(64, b + a);
    c = BigInt.asUintN(64, c + b);
    d = BigInt.asUintN(64, d + c);
  }
  return record(
    5,
    [a, b, c, d].map((sum, i): Field => [8 * i, 8, sum]),
  );
}

/** A descriptor with these bytes. */
export function channel(...records: Buffer[]): StreamChannel {
  const bytes = Buffer.concat(records);
  let at = 0;
  const read = (_fd: number, buffer: Uint8Array): number => {
    const part = bytes.subarray(at, at + buffer.length);
    buffer.set(part);
    at += part.length;
    return part.length;
  };
  const refuse = () => Promise.reject(new ErrnoError(Errno.EBADF, 'for reading only'));
  return { read, readRecords: read, write: refuse, gather: () => false, drain: () => Promise.resolve() };
}
