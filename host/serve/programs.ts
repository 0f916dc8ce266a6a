import { spawn } from 'node:child_process';

/** How one of upstream's programs ended. */
export interface ProgramResult {
  /** Exit code; 128 and the signal's number when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProgramOptions {
  /** Bytes for its standard input; nothing by default. */
  readonly input?: Uint8Array;
  /** After so long it is ended, and its standard error says so. */
  readonly timeoutMs?: number;
}

/** Runs `zpool`, `zfs`, … with arguments and collects what it prints. Rejects only when it could not be started. */
export type RunProgram = (program: string, args: readonly string[], options?: ProgramOptions) => Promise<ProgramResult>;

export interface ChildOptions {
  /** Runs the program: Node's arguments before the program's own. */
  readonly nodeArgs: (program: string) => readonly string[];
  /** The ioctl socket it talks to. */
  readonly socket: string;
}

/** What a program may print before it is ended: `zfs list` of some 100,000 datasets. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** Runs programs as child processes of this Node. */
export function childPrograms({ nodeArgs, socket }: ChildOptions): RunProgram {
  return (program, args, options = {}) =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [...nodeArgs(program), ...args], {
        env: { ...process.env, ZOW_SOCKET: socket, ZFS_COLOR: '' },
        stdio: ['pipe', 'pipe', 'pipe'],
        // Ctrl-C at the host's terminal is the host's: it still needs `zpool export`.
        detached: true,
        ...(options.timeoutMs !== undefined && { timeout: options.timeoutMs, killSignal: 'SIGKILL' as const }),
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      let bytes = 0;
      const collect = (into: Buffer[]) => (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > OUTPUT_BYTES_MAX) child.kill();
        else into.push(chunk);
      };
      child.stdout.on('data', collect(stdout));
      child.stderr.on('data', collect(stderr));
      // A program that does not read its input is none of our business.
      child.stdin.on('error', () => {});
      child.stdin.end(options.input ?? new Uint8Array());
      child.on('error', (error) => reject(new Error(`cannot run ${program}`, { cause: error })));
      child.on('close', (code, signal) => {
        if (signal === 'SIGKILL' && child.killed)
          stderr.push(Buffer.from(`${program}: did not end within ${options.timeoutMs! / 1000} s\n`));
        resolve({
          code: code ?? (signal === null ? 1 : 128 + 15),
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        });
      });
    });
}
