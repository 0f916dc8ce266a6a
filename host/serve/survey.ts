import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { PoolConfig } from '../config/config.ts';
import type { Device } from '../devices/device.ts';
import { openDevice } from '../devices/open.ts';
import type { RemoteDisks } from '../devices/remote.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { LABEL_BYTES, readFully, readLabel, type VdevLabel } from './label.ts';
import { knownContent } from './signatures.ts';

/** What a configured device turned out to be. */
export type Finding =
  /** `why`: what keeps a remote disk away. */
  | { readonly kind: 'missing'; readonly why?: string }
  /** It cannot be used, and the message says why. */
  | { readonly kind: 'unusable'; readonly message: string }
  /** Where ZFS would put its labels there is nothing but zeroes. */
  | (Present & { readonly kind: 'blank' })
  /** It holds something that is not ZFS: `an ext4 file system`. */
  | (Present & { readonly kind: 'foreign'; readonly what: string })
  | (Present & { readonly kind: 'labelled'; readonly label: VdevLabel });

interface Present {
  readonly sizeBytes: number;
  /** Equal for two paths of one disk. */
  readonly identity: string;
}

/** A survey of one pool's devices. */
export interface PoolSurvey {
  readonly pool: PoolConfig;
  /** By the leaf's path. */
  readonly findings: ReadonlyMap<string, Finding>;
  /** Other files beside the pool's that belong to it by their labels: what `zpool add` or `replace` brought. */
  readonly siblings: readonly string[];
}

/** Label 0 and 1 and the boot block after them begin a device, label 2 and 3 end it. */
const HEAD_BYTES = 4 * 1024 * 1024;
const TAIL_BYTES = 2 * LABEL_BYTES;
/** Files of a folder that are looked at; a folder with more is no folder of disks. */
const SIBLINGS_MAX = 256;

export interface SurveyOptions {
  /** Whether a device that another process serves is unusable; looking takes the lock for a moment. */
  readonly exclusive: boolean;
  /** The remote disks that paths may name. */
  readonly remote?: RemoteDisks;
}

/** Looks at every device of a pool, opening it for reading only. */
export async function surveyPool(pool: PoolConfig, options: SurveyOptions): Promise<PoolSurvey> {
  const findings = new Map<string, Finding>();
  for (const { path } of pool.vdevs.leaves) findings.set(path, await surveyDevice(path, options));
  return { pool, findings, siblings: await findSiblings(findings, options.remote) };
}

/** Looks at one device. Never rejects: what is wrong with it is a finding. */
export async function surveyDevice(path: string, { exclusive, remote }: SurveyOptions): Promise<Finding> {
  let device: Device;
  try {
    device = await openDevice(path, { readOnly: true, exclusive }, remote);
  } catch (error) {
    if (error instanceof ErrnoError && error.errno === Errno.ENOENT) return { kind: 'missing' };
    // Its pool may do without it, as without a file that is not there.
    const why = remote?.whyAway(path);
    if (why !== undefined) return { kind: 'missing', why };
    return { kind: 'unusable', message: messageOf(error) };
  }
  try {
    return await examine(device);
  } catch (error) {
    return { kind: 'unusable', message: messageOf(error) };
  } finally {
    await device.close();
  }
}

async function examine(device: Device): Promise<Finding> {
  const sizeBytes = await device.size();
  const present = { sizeBytes, identity: device.identity };
  const label = await readLabel(device);
  if (label !== undefined) return { ...present, kind: 'labelled', label };
  const head = await readFully(device, 0, Math.min(HEAD_BYTES, sizeBytes));
  const tailOffset = Math.max(0, sizeBytes - TAIL_BYTES);
  const tail = await readFully(device, tailOffset, sizeBytes - tailOffset);
  if (isZero(head) && isZero(tail)) return { ...present, kind: 'blank' };
  return { ...present, kind: 'foreign', what: knownContent(head) ?? 'data that is not ZFS' };
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).equals(Buffer.alloc(bytes.byteLength));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * A device that was added to the pool while the host ran is not in the configuration, and yet the pool cannot be
 * imported without it. Candidates are the paths in the labels and the files in the same folders. A copy of a disk has
 * the same label under another name, so only a file with the name its label records is taken.
 */
async function findSiblings(
  findings: ReadonlyMap<string, Finding>,
  remote: RemoteDisks | undefined,
): Promise<string[]> {
  const guids = new Set<bigint>();
  const candidates = new Set<string>();
  for (const [path, finding] of findings) {
    if (finding.kind !== 'labelled' || finding.label.pool === undefined) continue;
    guids.add(finding.label.pool.guid);
    for (const recorded of finding.label.paths) candidates.add(recorded);
    for (const file of filesOf(dirname(path))) candidates.add(file);
  }
  const siblings: string[] = [];
  for (const candidate of candidates) {
    if (findings.has(candidate) || !(remote?.has(candidate) || existsSync(candidate))) continue;
    const finding = await surveyDevice(candidate, { exclusive: false, ...(remote && { remote }) });
    if (finding.kind !== 'labelled' || finding.label.pool === undefined) continue;
    const recorded = finding.label.path;
    if (recorded === undefined || basename(recorded) !== basename(candidate)) continue;
    if (guids.has(finding.label.pool.guid)) siblings.push(candidate);
  }
  return siblings.sort();
}

function filesOf(folder: string): string[] {
  // Device nodes are named by the labels; opening all of /dev to look for others is not worth its side effects.
  if (folder === '/dev' || folder.startsWith('/dev/')) return [];
  try {
    const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
    return files.length > SIBLINGS_MAX ? [] : files.map((entry) => join(folder, entry.name));
  } catch {
    return [];
  }
}
