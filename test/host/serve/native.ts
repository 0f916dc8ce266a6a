import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ProgramResult, RunProgram } from '../../../host/serve/programs.ts';

const folder = fileURLToPath(new URL('../../../cli/native/bin/', import.meta.url));

/** The natively built programs against a socket: what ZowHost's `programs` takes. */
export function nativePrograms(socket: string): RunProgram {
  return (program, args) =>
    new Promise((resolve, reject) => {
      const child = spawn(`${folder}${program}`, args, {
        env: { ...process.env, ZOW_SOCKET: socket },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const result = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr'] as const) {
        child[name].setEncoding('utf8').on('data', (text: string) => {
          result[name] += text;
        });
      }
      child.on('error', () => reject(new Error(`${program} is not built natively: make native`)));
      child.on('close', (code) => resolve({ code: code ?? 128, ...result }));
    });
}

/** Every block of an exported pool verified, and every leak found, by native code: the exit code and what it said. */
export function zdb(disks: string, pool: string): ProgramResult {
  const { status, stdout, stderr } = spawnSync(`${folder}zdb`, ['-e', '-p', disks, '-bcc', pool], { encoding: 'utf8' });
  return { code: status ?? 128, stdout, stderr };
}
