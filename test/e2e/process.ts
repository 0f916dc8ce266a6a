import { type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** Other programs, run to their end; waiting; numbers and bytes from a seed. */
const commandTimeoutMs = 90_000;

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions extends SpawnOptions {
  readonly input?: Uint8Array | string;
  /** Environment variables beside those of this process. */
  readonly vars?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
}

/** Runs a program to its end and collects what it prints; one that takes too long is an error, not a hang. */
export async function execute(command: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const { input, vars, timeoutMs = commandTimeoutMs, ...rest } = options;
  const child = spawn(command, args, { stdio: 'pipe', ...rest, env: { ...process.env, ...vars } });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin?.on('error', () => {});
  child.stdin?.end(input ?? '');
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve(status));
  }).finally(() => clearTimeout(timer));
  const result = { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  if (late) throw new Error(`${describe(command, args)} took longer than ${timeoutMs} ms\n${output(result)}`);
  return result;
}

/** As execute; rejects with what it printed unless it exits with 0. Returns stdout. */
export async function must(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await execute(command, args, options);
  if (result.code !== 0) throw new Error(`${describe(command, args)} -> ${result.code}\n${output(result)}`);
  return result.stdout;
}

export function describe(command: string, args: readonly string[]): string {
  return [command.split('/').at(-1), ...args].join(' ');
}

export function output({ stdout, stderr }: Result): string {
  return `${stdout.slice(-4000)}${stderr.slice(-4000)}`;
}

/** Polls until `condition` holds. Rejects, naming `what`, when it does not within the time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(50);
  }
}

/** A port of loopback's that nobody listens on, for a program that has to be told one. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Bytes that depend on the seed and do not compress. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = (seed * 2654435761 + 1) >>> 0;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset & ~3, length >> 2);
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state >>> 0;
  }
  for (let i = length & ~3; i < length; i++) bytes[i] = i;
  return bytes;
}

/** A seeded random number generator: integers below `n`. */
export function dice(seed: number): (n: number) => number {
  let state = (seed * 2654435761 + 12345) >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}
