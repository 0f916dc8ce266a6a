import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execute, type Lab, type Result, type RunOptions, root } from '../e2e/host.ts';

/** What the tests of manual pages share: each page's promises about exit codes and messages, and the native programs. */

/** A command that changes nothing: its words, the exit code, and what it prints on stdout or stderr. */
export type Promised = readonly [args: readonly string[], code: number, printed: RegExp];

/** Runs commands that do not depend on each other, `atOnce` at a time. */
export async function promises(
  t: ExecutionContext<unknown>,
  lab: Lab,
  program: string,
  all: readonly Promised[],
  atOnce = 3,
): Promise<void> {
  const rest = [...all];
  const worker = async () => {
    for (let next = rest.shift(); next !== undefined; next = rest.shift()) {
      const [args, code, printed] = next;
      const result = await lab.run(program, args);
      const command = `${program} ${args.join(' ')}`;
      t.is(result.code, code, `${command}\n${result.stdout}${result.stderr}`);
      t.regex(result.stdout + result.stderr, printed, command);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** The same command by the natively built program, against the same host. */
export function natively(
  lab: Lab,
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Result> {
  const vars = { ZOW_SOCKET: lab.socket, ...options.vars };
  return execute(join(root, 'cli/native/bin', program), args, { ...options, vars });
}

/** Runs a command that must fail. What it prints on stdout and on stderr, which upstream parts at will. */
export async function refused(lab: Lab, program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.run(program, args);
  if (code === 0) throw new Error(`${program} ${args.join(' ')} succeeded\n${stdout}${stderr}`);
  return stdout + stderr;
}
