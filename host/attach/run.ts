import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Another program failed; the message is a sentence with what it printed. */
export class ProgramError extends Error {}

/** Where tools of administrators are, which not every PATH has. */
const FOLDERS = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Path of a program; undefined when there is none. */
export function findProgram(name: string): string | undefined {
  return FOLDERS.filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs a program to its end, and resolves with its stdout. Rejects with ProgramError unless it exits with 0. */
export function runProgram(name: string, args: readonly string[]): Promise<string> {
  const program = findProgram(name);
  if (program === undefined) return Promise.reject(new ProgramError(`there is no program ${name}`));
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(stdout);
      else reject(new ProgramError(`${name}: ${lastLine(stderr) ?? `ended with ${code ?? signal}`}`));
    });
  });
}

/** What a program said last, without its name. */
export function lastLine(text: string): string | undefined {
  const line = text.trim().split('\n').at(-1)!.trim();
  return line === '' ? undefined : line.replace(/^[a-z0-9]+: /, '');
}
