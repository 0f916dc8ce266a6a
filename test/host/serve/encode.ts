import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';

/** Values as nvlists have them: bigint is uint64. */
export type Value = bigint | string | boolean | { [name: string]: Value } | { [name: string]: Value }[];
export type List = { [name: string]: Value };

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value >>> 0);
  return buffer;
}

function u64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(value);
  return buffer;
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u32(bytes.length), bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

function list(value: List): Buffer {
  const pairs = Object.entries(value).map(([name, member]) => {
    const [type, count, data] = encodeValue(member);
    const body = Buffer.concat([string(name), u32(type), u32(count), data]);
    return Buffer.concat([u32(body.length + 8), u32(body.length + 8), body]);
  });
  return Buffer.concat([u32(0), u32(1), ...pairs, u32(0), u32(0)]);
}

function encodeValue(value: Value): [type: number, count: number, data: Buffer] {
  if (typeof value === 'bigint') return [8, 1, u64(value)];
  if (typeof value === 'string') return [9, 1, string(value)];
  if (typeof value === 'boolean') return [1, 0, Buffer.alloc(0)];
  if (Array.isArray(value)) return [20, value.length, Buffer.concat(value.map(list))];
  return [19, 1, list(value)];
}

/** A packed nvlist, XDR, as nvlist_pack() makes it. */
export function encodeNvlist(value: List): Buffer {
  return Buffer.concat([Buffer.from([1, 1, 0, 0]), list(value)]);
}

export interface LabelFields {
  readonly name: string;
  readonly poolGuid: bigint;
  readonly guid: bigint;
  /** pool_state_t. */
  readonly state?: bigint;
  readonly txg?: bigint;
  readonly ashift?: bigint;
  /** Of the mirror's devices, by guid. */
  readonly paths: ReadonlyMap<bigint, string>;
}

/** The configuration on the label of one side of a mirror. */
export function mirrorLabel(fields: LabelFields): List {
  return {
    version: 5000n,
    name: fields.name,
    state: fields.state ?? 0n,
    txg: fields.txg ?? 4n,
    pool_guid: fields.poolGuid,
    hostname: 'elsewhere',
    top_guid: 77n,
    guid: fields.guid,
    vdev_children: 1n,
    vdev_tree: {
      type: 'mirror',
      id: 0n,
      guid: 77n,
      ashift: fields.ashift ?? 12n,
      children: [...fields.paths].map(([guid, path], id) => ({ type: 'file', id: BigInt(id), guid, path })),
    },
    features_for_read: { 'com.delphix:hole_birth': true },
  };
}

const LABEL_BYTES = 256 * 1024;

/** Writes a label to the places of a file where vdev_label_t has it; `which` of the four. */
export function writeLabel(path: string, value: List, which: readonly number[] = [0, 1, 2, 3]): void {
  const fd = openSync(path, 'r+');
  try {
    const size = Math.floor(fstatSync(fd).size / LABEL_BYTES) * LABEL_BYTES;
    for (const index of which) {
      const offset = index < 2 ? index * LABEL_BYTES : size - (4 - index) * LABEL_BYTES;
      const bytes = Buffer.alloc(112 * 1024 - 40);
      encodeNvlist(value).copy(bytes);
      writeSync(fd, bytes, 0, bytes.length, offset + 16 * 1024);
    }
  } finally {
    closeSync(fd);
  }
}

export function sparseFile(path: string, bytes: number): string {
  const fd = openSync(path, 'wx');
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return path;
}
