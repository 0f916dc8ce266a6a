import { writeFileSync } from 'node:fs';
import { homedir, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import { readWasm, shareFolder, wasmFile } from '../host/assets.ts';
import { computeImports } from '../host/core/compute.ts';
import { print } from '../host/print.ts';
import { WasmModule } from '../host/runtime/module.ts';
import type { ProgramExports, ProgramImports } from '../host/runtime/seam.ts';
import { Processes } from './process/processes.ts';
import { Signals } from './process/signals.ts';
import { Sockets } from './process/sockets.ts';
import { Terminal } from './process/terminal.ts';

const MiB = 1024 * 1024;

/** As a shell reports the death by a signal: 128 and its number. */
const brokenPipeCode = 128 + 13;
const abortCode = 128 + 6;
/** Whose handlers end what the program waits for. Others tell it something while it goes on. */
const interrupting: ReadonlySet<NodeJS.Signals> = new Set(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM']);

/** Reserved, not used: what a program does not touch costs nothing. In bytes. */
function memoryBytes(program: string): number {
  // zdb has a pool's caches and zstream tables of a whole stream; as much of the machine as upstream's would take.
  if (program === 'zdb' || program === 'zstream')
    return Math.min(2048 * MiB, Math.max(512 * MiB, Math.floor(totalmem() / 2)));
  return 256 * MiB;
}

/**
 * Runs one of upstream's programs in this process and ends it as the program ends. Its files, terminal, environment and
 * signals are this process's; /dev/zfs is the host that ZOW_SOCKET names (cli/src/).
 */
export async function main(program: string, args: readonly string[]): Promise<void> {
  const file = wasmFile(program);
  nameProcess(program, args);
  const tracing = process.env.ZOW_TRACE;
  const trace = tracing ? (await import('../host/log.ts')).tracer('wasi') : undefined;
  const die = (text: string): never => {
    print(2, `${program}: ${text}\n`);
    process.exit(abortCode);
  };
  let signals: Signals | undefined;
  let ended = false;
  const module = new WasmModule<ProgramExports, ProgramImports>(
    {
      file,
      read: (name) => readOrEnd(program, name),
      memoryBytes: memoryBytes(program),
      args: [program, ...args],
      env: { HOSTNAME: hostname(), ...scriptsPath(args), ...environment(), PWD: workingDirectory() },
      folders: { '/usr/share/zfs': shareFolder },
      trace,
      exit: (code) => {
        ended = true;
        process.exit(code);
      },
      onPanic: die,
      onTrap: (fiber, error) => die(`internal error in fiber ${fiber}: ${(error as Error).stack ?? String(error)}`),
      onBrokenPipe: () => {
        if (signals?.isIgnored('SIGPIPE') !== true) process.exit(brokenPipeCode);
      },
    },
    (self) => {
      const terminal = new Terminal(self);
      const sockets = new Sockets(self);
      signals = new Signals(self, (signal) => {
        terminal.interrupt();
        if (signal !== undefined && interrupting.has(signal)) sockets.interrupt();
      });
      return {
        ...computeImports(self.memory),
        ...new Processes(self).imports,
        ...sockets.imports,
        ...signals.imports,
        ...terminal.imports,
      };
    },
  );
  process.on('exit', (code) => {
    if (ended || code !== 0) return;
    // The event loop has nothing left to wait for, and main() has not come to its end.
    print(2, `${program}: internal error: every fiber waits for another\n`);
    process.exitCode = abortCode;
  });
  module.start();
}

/**
 * What ps, pgrep and killall see is upstream's program, not Node: sanoid and syncoid look in `ps -Ao args=` for a
 * `zfs receive` that is under way.
 */
function nameProcess(program: string, args: readonly string[]): void {
  process.title = [program, ...args].join(' ');
  try {
    // Node has put the beginning of the title here.
    writeFileSync('/proc/self/comm', program);
  } catch {
    // Not Linux.
  }
}

function environment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

/** Upstream's default, then the scripts that come with ZoW, for -c: a machine without another ZFS has none in /etc. */
function scriptsPath(args: readonly string[]): { ZPOOL_SCRIPTS_PATH?: string } {
  if (!args.some((arg) => /^-\w*c/.test(arg))) return {};
  return {
    ZPOOL_SCRIPTS_PATH: [join(homedir(), '.zpool.d'), '/etc/zfs/zpool.d', join(shareFolder(), 'zpool.d')].join(':'),
  };
}

function readOrEnd(program: string, file: string): Uint8Array<ArrayBuffer> {
  try {
    return readWasm(file);
  } catch {
    print(2, `${program}: ${file} is missing; run make\n`);
    process.exit(1);
  }
}

/** The root when it was removed: absolute paths still work. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}
