import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type NvPairs, packNvlist } from '../nvlist/pack.ts';

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
export function mirrorLabel(fields: LabelFields): NvPairs {
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
export function writeLabel(path: string, value: NvPairs, which: readonly number[] = [0, 1, 2, 3]): void {
  const fd = openSync(path, 'r+');
  try {
    const size = Math.floor(fstatSync(fd).size / LABEL_BYTES) * LABEL_BYTES;
    for (const index of which) {
      const offset = index < 2 ? index * LABEL_BYTES : size - (4 - index) * LABEL_BYTES;
      const bytes = Buffer.alloc(112 * 1024 - 40);
      packNvlist(value).copy(bytes);
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
