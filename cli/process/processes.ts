import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { Errno, errnoOf } from '../../host/errno.ts';
import { LOCK_EX_NB, linuxFfi } from '../../host/ffi.ts';
import type { Seam } from '../../host/runtime/seam.ts';
import { type Process, stringArray } from './process.ts';

/** Flags of libzfs_run_process() (libzfs.h). */
const stdoutVerbose = 1;
const stderrVerbose = 2;
const noDefaultPath = 4;

/** What a program that is run by another may print, in bytes. */
const outputBytesMax = 64 * 1024 * 1024;

/** The imports of wasm/program/process.c and run.c: who the process is, and running others. */
export class Processes {
  readonly #process: Process;

  constructor(process: Process) {
    this.#process = process;
  }

  get imports(): Seam['processes'] {
    const ids = [process.getuid, process.geteuid, process.getgid, process.getegid];
    return {
      // What a platform without users has is nobody special.
      'process-id': (which) =>
        which === 4 ? process.pid : which === 5 ? process.ppid : (ids[which]?.call(process) ?? 1000),
      'process-exec': (path, argv, envp) => this.#exec(path, argv, envp),
      'process-run': (path, argv, envp, flags, output, length) => this.#run(path, argv, envp, flags, output, length),
      'process-title': (title, length) => {
        process.title = this.#process.memory.text(title, length);
      },
      'process-lock': (fd) => -this.#lock(this.#process.wasi.nodeFd(fd)),
    };
  }

  /** execve(2): the other program runs as a child, and this process ends as it does. */
  #exec(path: number, argv: number, envp: number): number {
    const file = this.#process.memory.string(path);
    try {
      accessSync(file, constants.X_OK);
    } catch (error) {
      return -errnoOf(error);
    }
    const { status, signal, error } = this.#spawn(file, argv, envp, ['inherit', 'inherit', 'inherit']);
    if (error !== undefined) return -errnoOf(error);
    if (signal !== null) process.kill(process.pid, signal);
    process.exit(status ?? 1);
  }

  #run(path: number, argv: number, envp: number, flags: number, output: number, length: number): number {
    const { memory, exports } = this.#process;
    const file = memory.string(path);
    if (flags & noDefaultPath && !file.includes('/')) return -1;
    const { status, stdout } = this.#spawn(file, argv, envp, [
      'inherit',
      output !== 0 ? 'pipe' : flags & stdoutVerbose ? 'inherit' : 'ignore',
      flags & stderrVerbose ? 'inherit' : 'ignore',
    ]);
    if (status === null) return -1;
    if (output !== 0) {
      const address = exports.alloc(stdout.length + 1);
      if (address === 0) return -1;
      memory.view(address, stdout.length).set(stdout);
      memory.setU32(output, address);
      memory.setU32(length, stdout.length);
    }
    return status;
  }

  /** An errno; EOPNOTSUPP where nobody can tell. */
  #lock(fd: number | undefined): number {
    if (fd === undefined) return Errno.EBADF;
    const libc = linuxFfi()?.dlopen(null, { flock: { arguments: ['i32', 'i32'], return: 'i32' } });
    if (libc === undefined) return Errno.EOPNOTSUPP;
    return libc.functions.flock(fd, LOCK_EX_NB) === 0 ? 0 : Errno.EAGAIN;
  }

  #spawn(file: string, argv: number, envp: number, stdio: ('inherit' | 'ignore' | 'pipe')[]): SpawnSyncReturns<Buffer> {
    const [argv0 = file, ...args] = stringArray(this.#process, argv);
    const env = Object.fromEntries(
      stringArray(this.#process, envp).map((entry) => {
        const at = entry.indexOf('=');
        return [entry.slice(0, at), entry.slice(at + 1)];
      }),
    );
    return spawnSync(file, args, { argv0, env, stdio, maxBuffer: outputBytesMax });
  }
}
