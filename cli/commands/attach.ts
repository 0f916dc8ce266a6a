import { spawn } from 'node:child_process';
import { existsSync, realpathSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { isSingle } from '../../host/assets.ts';
import { askKeeper, type ControlAnswer, type ControlRequest, sentence } from '../../host/attach/control.ts';
import { Keeper } from '../../host/attach/keeper.ts';
import { removeLinkFile } from '../../host/attach/link-file.ts';
import {
  type AttachmentRecord,
  attachmentsFolder,
  controlSocket,
  folderOf,
  listFolders,
  logFile,
  readRecord,
} from '../../host/attach/record.ts';
import { ProgramError } from '../../host/attach/run.ts';
import type { WayName } from '../../host/attach/ways/way.ts';
import { takeDown } from '../../host/attach/ways/ways.ts';
import { Errno, ErrnoError, errnoOf } from '../../host/errno.ts';
import { makeFolders } from '../../host/folder.ts';
import { HostClient, HostUnreachableError } from '../../host/ioctl/client.ts';
import { QueryKind } from '../../host/ioctl/protocol.ts';
import type { LocatedVolume } from '../../host/nbd/locate.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { print } from '../../host/print.ts';
import { ExitCode } from '../../host/serve/errors.ts';
import { show } from './host.ts';

export interface AttachOptions {
  readonly readOnly?: boolean;
  readonly way?: WayName;
  readonly links?: string;
  /** Milliseconds; Infinity: for ever. */
  readonly wait?: number;
  readonly foreground?: boolean;
}

const WAIT_MS_DEFAULT = 300_000;
/** How long a keeper that has its folder and no socket yet is waited for. */
const START_MS = 3000;
const LOOK_MS = 50;
/** A keeper answers at once, unless it was stopped. */
const ANSWER_MS = 2000;

/** `zow attach`: prints the path that programs can open; a process is left that keeps the attachment. */
export function attachCommand(socket: string | undefined, volume: string, options: AttachOptions): Promise<number> {
  return sentences(async () => {
    const host = await whereHostIs(socket);
    makeFolders(rootFolder(), 0o700);
    const folder = folderOf(rootFolder(), host, volume);
    if (existsSync(folder)) return attachedAlready(folder, volume, options);
    if (options.foreground === true) return keep(host, folder, volume, options);
    return start(host, folder, volume, options);
  });
}

/** Its path again, unless it was to be another attachment. */
async function attachedAlready(folder: string, volume: string, options: AttachOptions): Promise<number> {
  const end = performance.now() + START_MS;
  let answer: ControlAnswer | undefined;
  while (answer === undefined && existsSync(folder) && performance.now() < end) {
    answer = await askKeeper(controlSocket(folder), { ask: 'attached' });
    if (answer === undefined) await sleep(LOOK_MS);
  }
  if (answer === undefined) {
    const where = readRecord(folder)?.front.path;
    const was = where === undefined ? '' : ` at ${where}`;
    throw new ErrnoError(
      Errno.EBUSY,
      `${volume} was attached${was}, and its keeper is gone: zow detach ${volume} first`,
    );
  }
  if ('error' in answer) throw new ErrnoError(Errno.EIO, answer.error);
  if (!('record' in answer)) throw new ErrnoError(Errno.EPROTO, 'the keeper answers something else');
  const { record } = answer;
  const otherwise = differs(record, volume, options);
  if (otherwise !== undefined) {
    throw new ErrnoError(Errno.EBUSY, `${volume} is attached already, at ${record.front.path}, ${otherwise}`);
  }
  show(`${record.front.path}\n`);
  return ExitCode.ok;
}

/** How an attachment is not the one that is asked for. */
function differs(
  { readOnly, readOnlyByWish, waitMs, front, link }: AttachmentRecord,
  volume: string,
  options: AttachOptions,
): string | undefined {
  if (options.readOnly === true && !readOnly) return 'and not read-only';
  if (options.readOnly !== true && readOnlyByWish) return 'read-only';
  if (options.way !== undefined && options.way !== front.way) return `as ${front.way}`;
  if (options.wait !== undefined && options.wait !== (waitMs ?? Infinity)) return 'with another --wait';
  if (options.links !== undefined && link?.path !== resolve(options.links, volume)) return 'without that link';
  return undefined;
}

/** Starts a process that keeps it, and waits until that has it. */
async function start(host: string, folder: string, volume: string, options: AttachOptions): Promise<number> {
  const { readOnly, way, links, wait } = options;
  const args = ['--socket', host, 'attach', '--foreground'];
  if (wait !== undefined) args.push('--wait', wait === Infinity ? 'forever' : `${wait}ms`);
  if (readOnly === true) args.push('--read-only');
  if (way !== undefined) args.push('--way', way);
  if (links !== undefined) args.push('--links', resolve(links));
  const self = isSingle ? [] : [...process.execArgv, process.argv[1]!];
  const child = spawn(process.execPath, [...self, ...args, '--', volume], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  // Who does not want to wait any longer does not want it attached either.
  const onSignal = () => child.kill('SIGTERM');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  let path = '';
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk;
  });
  const code = await new Promise<number | null>((done, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      path += chunk;
      if (path.endsWith('\n')) done(ExitCode.ok);
    });
    child.on('error', reject);
    child.on('close', done);
  });
  if (code === ExitCode.ok && path !== '') {
    show(path);
    return ExitCode.ok;
  }
  // Another one was faster.
  if (code === ExitCode.ok) return attachedAlready(folder, volume, options);
  print(2, complaint === '' ? `zow: ${volume} was not attached\n` : complaint);
  return code ?? ExitCode.failed;
}

/** Is the process that keeps it. */
async function keep(host: string, folder: string, volume: string, options: AttachOptions): Promise<number> {
  const { readOnly = false, way, links, wait = WAIT_MS_DEFAULT } = options;
  let keeper: Keeper | undefined;
  let isUnwanted = false;
  const detach = () => {
    isUnwanted = true;
    keeper?.detach({ force: false }).then(
      () => end(undefined),
      (error: unknown) => print(2, `zow: ${sentence(error)}\n`),
    );
  };
  const { promise: ended, resolve: end } = Promise.withResolvers<string | undefined>();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, detach);
  // Nothing shall be in use for our sake.
  const absolute = links === undefined ? undefined : resolve(links);
  process.chdir('/');
  try {
    keeper = await Keeper.start({
      ...{ folder, socket: host, volume, readOnly, way, links: absolute, waitMs: wait },
      locate: () => locate(host, volume),
      openLog: () =>
        pino({ timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: logFile(folder), sync: true })),
    });
  } catch (error) {
    // Another one was faster: whoever asked for both is told where it is.
    if (errnoOf(error) === Errno.EEXIST && existsSync(folder)) return ExitCode.ok;
    throw error;
  }
  print(1, `${keeper.record.front.path}\n`);
  if (isUnwanted) detach();
  const reason = await Promise.race([ended, keeper.ended]);
  if (reason === undefined) return ExitCode.ok;
  print(2, `zow: ${volume}: ${reason}\n`);
  return ExitCode.failed;
}

async function locate(socket: string, volume: string): Promise<LocatedVolume> {
  using host = await HostClient.connect(socket, 'zow');
  for await (const packed of host.query({ kind: QueryKind.volume, text: volume })) {
    return JSON.parse(String(decodeNativeNvlist(packed).get('json'))) as LocatedVolume;
  }
  throw new ErrnoError(Errno.EPROTO, 'the host answers a query with nothing');
}

/** What `zow attachments --json` prints of each. */
interface Shown {
  readonly volume: string;
  readonly path: string;
  readonly way: WayName;
  readonly size: number;
  readonly readOnly: boolean;
  readonly link?: string;
  readonly host: string;
  readonly pid: number;
  /** connected; away: requests wait; failing: they fail; lost: the keeper is gone, and its device with it. */
  readonly state: 'connected' | 'away' | 'failing' | 'lost' | 'unknown';
  readonly reason?: string;
  readonly awaySeconds?: number;
  readonly unflushedBytes?: number;
}

/** `zow attachments`: what is attached on this machine, of any host. */
export function attachmentsCommand({ json = false }: { readonly json?: boolean }): Promise<number> {
  return sentences(async () => {
    const shown = (await Promise.all(listFolders(rootFolder()).map(look))).filter((one) => one !== undefined);
    shown.sort((a, b) => (a.volume < b.volume ? -1 : 1));
    if (json) show(`${JSON.stringify(shown, undefined, 2)}\n`);
    else if (shown.length > 0) {
      const rows = shown.map((one) => [one.volume, one.path, one.readOnly ? 'ro' : 'rw', one.way, stateText(one)]);
      show(table([['VOLUME', 'PATH', 'MODE', 'WAY', 'STATE'], ...rows]));
    }
    return ExitCode.ok;
  });
}

async function look(folder: string): Promise<Shown | undefined> {
  const answer = await ask(folder, { ask: 'status' });
  const record = answer !== undefined && 'record' in answer ? answer.record : readRecord(folder);
  if (record === undefined) return undefined;
  const { volume, socket: host, size, readOnly, front, link, pid } = record;
  const { path, way } = front;
  const fixed = { volume, path, way, size, readOnly, ...(link !== undefined && { link: link.path }), host, pid };
  if (answer === undefined) return { ...fixed, state: 'lost', reason: 'its keeper ended; zow detach takes it down' };
  if (!('record' in answer)) return { ...fixed, state: 'unknown', reason: 'error' in answer ? answer.error : '' };
  const { isConnected, fails = false, ...status } = answer.status;
  return { ...fixed, state: stateOf(isConnected, fails), ...status };
}

function stateOf(isConnected: boolean, fails: boolean): 'connected' | 'away' | 'failing' {
  if (isConnected) return 'connected';
  return fails ? 'failing' : 'away';
}

/** Columns are as wide as they need to be. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function stateText({ state, reason, awaySeconds }: Shown): string {
  const since = awaySeconds === undefined ? '' : ` for ${awaySeconds} s`;
  return `${state}${since}${reason === undefined ? '' : `: ${reason}`}`;
}

/** `zow detach`: of a volume by its name, the path that was printed, or its link. */
export function detachCommand(
  socket: string | undefined,
  what: string,
  { force = false }: { readonly force?: boolean },
): Promise<number> {
  return sentences(async () => {
    const folder = findAttachment(rootFolder(), socket, what);
    const answer = await ask(folder, { ask: 'detach', force }, undefined);
    if (answer === undefined) {
      await bury(folder);
      return ExitCode.ok;
    }
    if ('error' in answer) throw new ErrnoError(Errno.EIO, answer.error);
    return ExitCode.ok;
  });
}

function findAttachment(root: string, socket: string | undefined, what: string): string {
  if (socket !== undefined) {
    const folder = folderOf(root, resolve(socket), what);
    if (existsSync(folder)) return folder;
  }
  const real = realPathOf(what);
  const found = listFolders(root)
    .map((folder) => ({ folder, record: readRecord(folder) }))
    .filter(({ record }) => record !== undefined && isMeant(record, what, real));
  if (found.length > 1) {
    throw new ErrnoError(Errno.EINVAL, `several hosts have ${what} attached: name the path that zow attachments shows`);
  }
  if (found.length === 0) throw new ErrnoError(Errno.ENOENT, `${what} is not attached; zow attachments lists what is`);
  return found[0]!.folder;
}

function isMeant({ volume, front, link }: AttachmentRecord, what: string, real: string): boolean {
  return volume === what || front.path === real || link?.path === resolve(what);
}

function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Takes down what a keeper left that ended by itself. */
async function bury(folder: string): Promise<void> {
  const record = readRecord(folder);
  if (record !== undefined) {
    await takeDown(record.front, { writes: false });
    if (record.link !== undefined) removeLinkFile(record.link, record.front.path);
  }
  rmSync(folder, { recursive: true, force: true });
}

async function ask(
  folder: string,
  request: ControlRequest,
  limitMs: number | undefined = ANSWER_MS,
): Promise<ControlAnswer | undefined> {
  const asked = askKeeper(controlSocket(folder), request);
  if (limitMs === undefined) return asked;
  const late = sleep(limitMs, { error: 'its keeper does not answer' }, { ref: false });
  return Promise.race([asked.catch((error: Error) => ({ error: error.message })), late]);
}

function rootFolder(): string {
  const root = attachmentsFolder();
  // The kernel tells of mounts and loop devices without symbolic links.
  if (root !== undefined) return realPathOf(resolve(root));
  throw new ErrnoError(Errno.ENOENT, 'nowhere to remember attachments: set XDG_RUNTIME_DIR or ZOW_ATTACHMENTS');
}

/** @throws HostUnreachableError where no socket is known. */
async function whereHostIs(socket: string | undefined): Promise<string> {
  if (socket !== undefined) return resolve(socket);
  // Says so with the words of all other commands.
  using _ = await HostClient.connect(socket, 'zow');
  return '';
}

/** What a person can do something about is one line. */
async function sentences(run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    const isExpected =
      error instanceof ErrnoError || error instanceof HostUnreachableError || error instanceof ProgramError;
    // Of Node: a folder that cannot be made, a socket that is somebody else's.
    const isSystem = typeof (error as NodeJS.ErrnoException).syscall === 'string';
    if (!isExpected && !isSystem) throw error;
    print(2, `zow: ${sentence(error)}\n`);
    return ExitCode.usage;
  }
}
