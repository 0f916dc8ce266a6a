import type { Device } from '../devices/device.ts';
import { NvList, NvlistError, type NvValue } from '../nvlist/nvlist.ts';
import { decodeXdrNvlist } from '../nvlist/xdr.ts';

/** What a device's labels say about the pool it is in. Guids and txgs are 64-bit. */
export interface VdevLabel {
  readonly state: PoolState;
  /** Missing on the labels of spares and cache devices, which know no pool. */
  readonly pool: { readonly name: string; readonly guid: bigint } | undefined;
  readonly txg: bigint;
  /** Of this device. */
  readonly guid: bigint;
  /** Of the top-level vdev it is in; 0 when the label does not say. */
  readonly ashift: number;
  /** Where the devices of the same top-level vdev were when the label was written. */
  readonly paths: readonly string[];
  /** Where this device itself was. */
  readonly path: string | undefined;
  readonly hostname: string | undefined;
}

/** pool_state_t, include/sys/fs/zfs.h, as far as labels have it. */
export type PoolState = 'active' | 'exported' | 'destroyed' | 'spare' | 'cache';
const STATES: readonly PoolState[] = ['active', 'exported', 'destroyed', 'spare', 'cache'];

/** sizeof (vdev_label_t): two at the start, two at the end, include/sys/vdev_impl.h. */
export const LABEL_BYTES = 256 * 1024;
const LABELS = 4;
/** VDEV_SKIP_SIZE and the nvlist's part of vdev_phys_t. */
const NVLIST_OFFSET = 16 * 1024;
const NVLIST_BYTES = 112 * 1024 - 40;

/**
 * The newest label of a device, or undefined when none of the four is one. Accepts what zpool_read_label() of
 * lib/libzutil/zutil_import.c accepts; a label that is damaged but readable counts, for there is or was a pool.
 * Rejects with ErrnoError when the device cannot be read.
 */
export async function readLabel(device: Device): Promise<VdevLabel | undefined> {
  const size = Math.floor((await device.size()) / LABEL_BYTES) * LABEL_BYTES;
  let newest: VdevLabel | undefined;
  for (let index = 0; index < LABELS; index++) {
    const offset = index < 2 ? index * LABEL_BYTES : size - (LABELS - index) * LABEL_BYTES;
    if (offset < 0 || offset + LABEL_BYTES > size) continue;
    const bytes = await readFully(device, offset + NVLIST_OFFSET, NVLIST_BYTES);
    const label = parseLabel(bytes);
    if (label !== undefined && (newest === undefined || label.txg > newest.txg)) newest = label;
  }
  return newest;
}

/** Reads up to `length` bytes; fewer only at the end of the device. */
export async function readFully(device: Device, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = await device.read(bytes.subarray(done), offset + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}

/** The label in the bytes of a vdev_phys_t, or undefined when there is none. Throws nothing, whatever the bytes. */
export function parseLabel(bytes: Uint8Array): VdevLabel | undefined {
  let list: NvList;
  try {
    list = decodeXdrNvlist(bytes);
  } catch (error) {
    if (error instanceof NvlistError) return undefined;
    throw error;
  }
  const guid = number(list.get('guid'));
  const state = STATES[Number(number(list.get('state')) ?? -1)];
  const txg = number(list.get('txg')) ?? 0n;
  if (guid === undefined || guid === 0n || state === undefined) return undefined;
  const inPool = state !== 'spare' && state !== 'cache';
  if (inPool && txg === 0n) return undefined;
  const name = text(list.get('name'));
  const poolGuid = number(list.get('pool_guid'));
  const tree = nested(list.get('vdev_tree'));
  const leaves = leavesOf(tree);
  return {
    state,
    pool: inPool && name !== undefined && poolGuid !== undefined ? { name, guid: poolGuid } : undefined,
    txg,
    guid,
    ashift: Number(number(tree?.get('ashift')) ?? 0n),
    paths: leaves.map((leaf) => text(leaf.get('path'))).filter((path) => path !== undefined),
    path: text(leaves.find((leaf) => number(leaf.get('guid')) === guid)?.get('path')),
    hostname: text(list.get('hostname')),
  };
}

function leavesOf(vdev: NvList | undefined): readonly NvList[] {
  if (vdev === undefined) return [];
  const children = vdev.get('children');
  if (!Array.isArray(children)) return [vdev];
  return (children as readonly NvList[]).flatMap(leavesOf);
}

function number(value: NvValue | undefined): bigint | undefined {
  return typeof value === 'bigint' ? value : undefined;
}

function text(value: NvValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function nested(value: NvValue | undefined): NvList | undefined {
  return value instanceof NvList ? value : undefined;
}
