import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LinkStatus } from './link.ts';
import type { FrontRecord } from './ways/way.ts';

/**
 * An attachment as it is remembered: a folder in the runtime directory, which is gone with the machine's memory as the
 * attachment is. In it are the keeper's sockets, its log, and this.
 */
export interface AttachmentRecord {
  /** Name of the volume. */
  readonly volume: string;
  /** The host's ioctl socket. */
  readonly socket: string;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** It would not be, if nobody had asked for that. */
  readonly readOnlyByWish: boolean;
  /** How long requests wait for a host that is away, milliseconds; null: for ever. */
  readonly waitMs: number | null;
  readonly front: FrontRecord;
  /** A symbolic link to the path, and the folder that it is somewhere in. */
  readonly link?: { readonly path: string; readonly folder: string };
  /** The keeper's. */
  readonly pid: number;
  /** Of this machine's start. */
  readonly boot: string;
}

/** What the keeper says of it. */
export type KeeperStatus = LinkStatus & { readonly unflushedBytes: number };

const RECORD = 'attachment.json';
/** Names of the sockets are short: their paths have at most 107 bytes. */
export const controlSocket = (folder: string) => join(folder, 'control');
export const nbdSocket = (folder: string) => join(folder, 'nbd');
export const logFile = (folder: string) => join(folder, 'log');

/** Where attachments are: ZOW_ATTACHMENTS, else in the runtime directory. Undefined when there is none. */
export function attachmentsFolder(
  env: NodeJS.ProcessEnv = process.env,
  uid: number = process.geteuid!(),
): string | undefined {
  const given = env.ZOW_ATTACHMENTS;
  if (given !== undefined && given !== '') return given;
  if (uid === 0) return '/run/zow/attachments';
  const runtime = env.XDG_RUNTIME_DIR;
  return runtime !== undefined && runtime !== '' ? join(runtime, 'zow-attachments') : undefined;
}

/** Of a volume of a host; the same each time. */
export function folderOf(root: string, socket: string, volume: string): string {
  const hash = createHash('sha256').update(`${socket}\0${volume}`).digest('hex');
  return join(root, hash.slice(0, 12));
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function writeRecord(folder: string, record: AttachmentRecord): void {
  const path = join(folder, RECORD);
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Undefined: it is just being attached, or never was. */
export function readRecord(folder: string): AttachmentRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as AttachmentRecord;
  } catch {
    return undefined;
  }
}

/** Folders of all attachments. What is left of those before the machine was started is removed: nothing of it stands. */
export function listFolders(root: string): string[] {
  let names: string[];
  try {
    names = readdirSync(root);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const folders: string[] = [];
  for (const folder of names.map((name) => join(root, name))) {
    const record = readRecord(folder);
    if (record !== undefined && record.boot !== bootId()) rmSync(folder, { recursive: true, force: true });
    else folders.push(folder);
  }
  return folders;
}
