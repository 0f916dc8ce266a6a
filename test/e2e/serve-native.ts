import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { serve } from '../../cli/commands/serve.ts';
import type { ProgramResult, RunProgram } from '../../host/serve/programs.ts';

/** `zow serve FILE` whose own calls of zpool and zfs go to the programs of cli/native/bin, for machines without the wasm ones. */
const bin = join(import.meta.dirname, '../../cli/native/bin');

function nativePrograms(socket: string): RunProgram {
  return (program, args, options = {}) =>
    new Promise<ProgramResult>((resolve) => {
      const child = execFile(
        join(bin, program),
        [...args],
        { env: { ...process.env, ZOW_SOCKET: socket } },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
          resolve({ code, stdout, stderr });
        },
      );
      child.stdin?.on('error', () => {});
      child.stdin?.end(options.input ?? new Uint8Array());
    });
}

process.exit(await serve(process.argv[2]!, { programs: nativePrograms }));
