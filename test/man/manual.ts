import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execute, Lab, MiB, type Result, type RunOptions, root } from '../e2e/host.ts';

/** What `zfs create` and `zfs clone` say of every filesystem that has a mount point. */
const notMounted = 'filesystem successfully created, but not mounted: ZoW mounts no file systems\n';

/** A host with pools on one disk each, and its programs as a manual page writes them: one line each. */
export class Manual {
  readonly t: ExecutionContext<unknown>;
  readonly lab: Lab;

  static async open(t: ExecutionContext<unknown>, ...pools: string[]): Promise<Manual> {
    const lab = await Lab.open(t);
    await lab.start();
    for (const pool of pools) await lab.zpool('create', pool, lab.disk(pool, 384 * MiB));
    return new Manual(t, lab);
  }

  private constructor(t: ExecutionContext<unknown>, lab: Lab) {
    this.t = t;
    this.lab = lab;
  }

  /** Runs `zfs LINE` (words at blanks) and wants it to succeed and say no more on stderr. Its stdout. */
  async zfs(line: string, options?: RunOptions): Promise<string> {
    const { code, stdout, stderr } = await this.lab.run('zfs', line.split(' '), options);
    if (code !== 0 || stderr.replace(notMounted, '') !== '')
      throw new Error(`zfs ${line} -> ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Runs several lines in turn. */
  async each(...lines: string[]): Promise<void> {
    for (const line of lines) await this.zfs(line);
  }

  /** Runs `zfs LINE`, which has to fail with this on stderr, and with 1, or 255 where upstream returns -1, or with `code`. */
  async refuses(line: string, message: RegExp, code?: number): Promise<void> {
    const result = await this.lab.run('zfs', line.split(' '));
    const expected = code ?? (result.code === 255 ? 255 : 1);
    this.t.is(result.code, expected, `zfs ${line}\n${result.stderr}`);
    this.t.regex(result.stderr, message, `zfs ${line}`);
  }

  /** Lines of stdout, without the last newline. */
  async lines(line: string): Promise<string[]> {
    const text = (await this.zfs(line)).trimEnd();
    return text === '' ? [] : text.split('\n');
  }

  /** Names of all that is below a dataset, without its own name before them. */
  async below(dataset: string): Promise<string> {
    const names = await this.lines(`list -Ho name -t all -s createtxg -s name -r ${dataset}`);
    return names.map((name) => name.slice(dataset.length)).join(' ');
  }

  async shell(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.lab.shell(script);
    if (code !== 0) throw new Error(`${script} -> ${code}\n${stderr}`);
    return stdout;
  }

  /** Writes to a volume, flushed. */
  async write(volume: string, offset: number, data: Buffer): Promise<void> {
    const client = await this.lab.open(volume);
    for (let at = 0; at < data.length; at += MiB) {
      const { errno } = await client.writeAt(offset + at, data.subarray(at, at + MiB));
      if (errno !== 0) throw new Error(`write to ${volume}: ${errno}`);
    }
    await client.request({ type: 3 });
    client.destroy();
  }

  async read(name: string, length: number, offset = 0): Promise<Buffer> {
    const client = await this.lab.open(name);
    const parts: Buffer[] = [];
    try {
      for (let at = 0; at < length; at += 8 * MiB) {
        parts.push(await client.readAt(offset + at, Math.min(8 * MiB, length - at)));
      }
    } finally {
      client.destroy();
    }
    return Buffer.concat(parts);
  }
}

/** A command that changes nothing: its words (of a line, at blanks), the exit code, what it prints on stdout or stderr. */
export type Promised = readonly [words: string | readonly string[], code: number, printed: RegExp];

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
      const [words, code, printed] = next;
      const args = typeof words === 'string' ? words.split(' ') : words;
      const result = await lab.run(program, args);
      const command = `${program} ${args.join(' ')}`;
      t.is(result.code, code, `${command}\n${result.stdout}${result.stderr}`);
      t.regex(result.stdout + result.stderr, printed, command);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** `zpool LINE` as a manual page writes it, words at blanks; it must exit with 0. Its stdout, without the last newline. */
export function typed(lab: Lab): (line: string) => Promise<string> {
  return async (line) => (await lab.zpool(...line.split(' '))).trimEnd();
}

/**
 * The devices that `zpool status` shows: `tank:DEGRADED[mirror-0:DEGRADED[d0 d1:OFFLINE]] logs[d2]`; paths by their last
 * part, and a state other than ONLINE or AVAIL behind the name.
 */
export async function layout(lab: Lab, pool: string): Promise<string> {
  const config = /config:\n\n([\s\S]*?)\n\n/.exec(await lab.zpool('status', pool))![1]!;
  const [, ...rows] = [...config.matchAll(/^\t( *)(\S+)[ \t]*([A-Z]*)/gm)];
  let shown = '';
  let depth = 0;
  for (const [, blanks = '', path = '', state = ''] of rows) {
    const at = blanks.length / 2;
    shown += at > depth ? '[' : `${']'.repeat(depth - at)} `;
    shown += path.split('/').at(-1) + (/^(ONLINE|AVAIL)?$/.test(state) ? '' : `:${state}`);
    depth = at;
  }
  return shown.trimStart() + ']'.repeat(depth);
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
