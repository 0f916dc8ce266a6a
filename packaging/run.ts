import { spawnSync } from 'node:child_process';

/** Runs a command that has to succeed; what it prints. */
export function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `exit code ${status}\n${stdout}${stderr}`}`);
}
