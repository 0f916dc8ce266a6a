import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { release } from '../host/assets.ts';
import { WAY_NAMES } from '../host/attach/ways/way.ts';
import { loadConfig } from '../host/config/load.ts';
import { defaultSocketPath } from '../host/ioctl/socket-path.ts';
import { print } from '../host/print.ts';
import { ExitCode } from '../host/serve/errors.ts';
import packageJson from '../package.json' with { type: 'json' };
import { type AttachOptions, attachCommand, attachmentsCommand, detachCommand } from './commands/attach.ts';
import { check } from './commands/check.ts';
import { diffCommand } from './commands/diff.ts';
import {
  type EventsOptions,
  eventsCommand,
  type KstatOptions,
  kstatCommand,
  statusCommand,
  type TunableOptions,
  tunableCommand,
} from './commands/inspect.ts';
import { explain, serve } from './commands/serve.ts';
import { type TopOptions, topCommand } from './commands/top.ts';
import { PROGRAMS } from './programs.ts';

const SERVE_HELP = `
The configuration is described in docs/config.md. Pools that exist are imported; what is missing is created only where
the configuration says so; whatever contradicts it is an error, and nothing is changed.

SIGTERM or SIGINT stops serving and exports the pools; a second one half a second later ends it at once. SIGHUP reads the
configuration again and changes, while it serves, what can be changed: zow check --diff shows what that would be.

Exit codes:
  0    ended by a signal, all pools exported
  1    wrong command line or configuration
  2    a pool, a device or a listener could not be started, or a pool could not be exported
  70   the core is lost: a VERIFY failure or panic, or an internal error
  130  ended by a second signal

Environment:
  ZOW_LOG    trace, debug, info, warn, error, fatal or silent: what is logged to stderr, as log.format says
  ZOW_TRACE  areas traced, with commas: ioctl, device, fiber, nbd, wasi, or all`;

const HELP = `
Programs are OpenZFS's own, with its options and exit codes: zow zpool status, zow zfs list, …
They find the host by --socket, else by ZOW_SOCKET, else at zow.sock in the runtime directory ($XDG_RUNTIME_DIR, or
/run/zow for root).

Example:
  zow serve pool.yaml          in one terminal
  zow zpool status             in another`;

const KSTAT_HELP = `
A pattern is PATH[:STATISTIC], the path as below a kernel's /proc/spl/kstat. Each part may have a shell's *, ? and [];
a path of fewer parts means all that is below it.

  zow kstat zfs/arcstats              what cat /proc/spl/kstat/zfs/arcstats shows
  zow kstat zfs/tank                  everything of the pool tank
  zow kstat -j 'zfs/*/txgs'           the last transaction groups of all pools
  zow kstat 'zfs/arcstats:*hits'      some statistics, one a line

In JSON an integer above 2^53-1 is a string of its digits.`;

const TUNABLE_HELP = `
Arguments are names, which are shown, and name=value, which are set; without any all are shown. Names, types and what
they accept are OpenZFS's own: see zfs(4). What is set here lasts until the host ends; 'tunables' of the configuration
sets it at each start.

  zow tunable zfs_txg_timeout
  zow tunable zfs_txg_timeout=10 zio_slow_io_ms=1000`;

const TOP_HELP = `
Rates are those of the last interval, in seconds (default 2). POOL has what the pool's disks do, and in how long 99 of
100 of their I/Os were done; VOLUME what its clients ask for, and how long the core took on average, milliseconds.

On a terminal: o, b, l and n sort volumes by operations, bytes, latency and name; q quits.`;

const ATTACH_HELP = `
Prints a path that programs can open, and leaves a process that keeps it until 'zow detach', across restarts of the
host. A volume that is attached already has its path printed again. Ways, the first that this machine has:

  loop  a block device /dev/loopN: nbdfuse, and a loop device on it
  fuse  a file: nbdfuse
  nbd   a block device /dev/nbdN: the kernel's nbd, and the program nbd-client; only with --way nbd

While the host is away reads and writes wait. After --wait (500ms, 30s, 5m, 2h or forever) they fail with EIO until it is
back. What it had acknowledged and not flushed is written again then: fsync() that succeeds has not lost anything.

  mkfs.ext4 $(zow attach tank/vm0)
  zow attach --links /dev/zow-volumes tank/vm0     /dev/zow-volumes/tank/vm0 leads to it

Environment:
  ZOW_ATTACHMENTS  folder in which attachments are remembered, instead of the runtime directory's`;

const DETACH_HELP = `
It fails while the volume is in use (mounted, or open in a program), and while the host is away.

--force gives up what the host has not written yet; also then nothing may use the volume.`;

const EVENTS_HELP = `
Each line has at least class, eid and time ([seconds, nanoseconds]). An integer above 2^53-1 is a string of its digits.
A reader that comes back goes on with --after and the last eid it has seen, as 42@1795387691: behind the @ are the
seconds of that event's time. eids count from 1 at each start of the host: if the host does not have the event with this
eid, or that is of another time, all that it has are shown.`;

/** `zow` except for its programs: parses the command line and runs it. Resolves with the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  let code: number = ExitCode.ok;
  const zow = zowCommand(async (work) => {
    code = await work;
  });
  try {
    await zow.parseAsync(args.length === 0 ? ['--help'] : args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  return code;
}

/**
 * The table of commands: what is parsed, the help, and what the man page and the completions of shells are made from. `ends` waits for
 * a command, and has its exit code.
 */
export function zowCommand(ends: (work: Promise<number>) => Promise<void>): Command {
  const zow = new Command('zow')
    .description('ZFS on WebAssembly: OpenZFS in one process, without a kernel module')
    .version(`zow ${packageJson.version}, OpenZFS ${release}`, '-V, --version')
    .option('--socket <path>', 'where the host is, or with serve: is to be')
    .addHelpText('after', HELP)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride();
  zow.configureOutput({
    writeOut: (text) => print(1, text),
    writeErr: (text) => print(2, text),
    outputError: (text, write) => write(text.replace(/^error: /, 'zow: ')),
    getOutHelpWidth: () => 100,
    getErrHelpWidth: () => 100,
  });
  zow
    .command('serve <config>')
    .description('serve the pools and volumes of a configuration, in the foreground')
    .option('--hints', 'print what to try next (the default on a terminal)')
    .addOption(new Option('--no-hints', 'do not').default(process.stdout.isTTY))
    .addHelpText('after', SERVE_HELP)
    .action(async (config: string, { hints }: { hints: boolean }) => {
      await ends(serve(config, { socket: zow.opts<{ socket?: string }>().socket, hints }));
    });
  zow
    .command('check <config>')
    .description('validate a configuration and say what serve would do; changes nothing')
    .option('-d, --diff', 'say what the host that runs would change if it read it now (SIGHUP)')
    .addHelpText(
      'after',
      '\nExit codes:\n  0    serve would start, or the host take it over\n  1    it would refuse, and this is why',
    )
    .action(async (config: string, { diff }: { diff?: boolean }) => {
      const given = zow.opts<{ socket?: string }>().socket;
      await ends(diff === true ? diffCommand(config, given) : checkCommand(config, given));
    });
  const socket = (): string | undefined => zow.opts<{ socket?: string }>().socket ?? defaultSocketPath();
  zow
    .command('status')
    .description("show the host's engines, and pools whose engine ended")
    .option('-j, --json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      await ends(statusCommand(socket(), options));
    });
  zow
    .command('kstat [pattern]')
    .description("show the host's statistics: ARC, ZIL, pools, data sets")
    .option('-j, --json', 'as one JSON array')
    .option('-c, --clear', 'clear them instead, as far as there is something to clear')
    .addHelpText('after', KSTAT_HELP)
    .action(async (pattern: string | undefined, options: KstatOptions) => {
      if (options.clear === true && pattern === undefined) zow.error("zow: --clear needs a pattern; '*' is everything");
      await ends(kstatCommand(socket(), pattern ?? '', options));
    });
  zow
    .command('tunable [args...]')
    .description("show OpenZFS's module parameters by name, or set them: name=value")
    .option('-j, --json', 'as one JSON array')
    .option('-v, --verbose', 'with types and descriptions')
    .addHelpText('after', TUNABLE_HELP)
    .action(async (args: string[], options: TunableOptions) => {
      await ends(tunableCommand(socket(), args, options));
    });
  zow
    .command('events')
    .description("show the pools' events, one JSON object a line")
    .option('-f, --follow', 'go on with those to come')
    .option('-a, --after <eid[@seconds]>', 'only events after the one with this eid', eventId)
    .addHelpText('after', EVENTS_HELP)
    .action(async (options: EventsOptions) => {
      await ends(eventsCommand(socket(), options));
    });
  zow
    .command('top [interval] [count]')
    .description('show what pools, volumes and clients do now, as zpool iostat and top do')
    .option('-b, --batch', 'one after the other, as where the output is no terminal')
    .option('-j, --json', 'the counters that rates are made of: a JSON object a line')
    .addHelpText('after', TOP_HELP)
    .action(async (interval: string | undefined, count: string | undefined, options: TopOptions) => {
      const seconds = positive(zow, 'interval', interval ?? '2');
      const times = count === undefined ? Infinity : positive(zow, 'count', count);
      await ends(topCommand(socket(), seconds, times, options));
    });
  zow
    .command('attach <volume>')
    .description('make a volume or a snapshot a block device or a file of this machine')
    .option('-r, --read-only', 'nothing can be changed through it, as with a snapshot')
    .addOption(new Option('--way <way>', 'this way or none').choices(WAY_NAMES))
    .option('--links <folder>', 'make a link there, under the name of the volume')
    .option('--wait <time>', 'how long reads and writes wait for a host that is away (default: 5m)', duration)
    .option('--foreground', 'be the process that keeps it, for a supervisor; SIGTERM detaches')
    .addHelpText('after', ATTACH_HELP)
    .action(async (volume: string, options: AttachOptions) => {
      await ends(attachCommand(socket(), volume, options));
    });
  zow
    .command('attachments')
    .description('show what is attached on this machine')
    .option('-j, --json', 'as one JSON array')
    .action(async (options: { json?: boolean }) => {
      await ends(attachmentsCommand(options));
    });
  zow
    .command('detach <volume|path>')
    .description('end what zow attach began')
    .option('--force', 'also when the host is away')
    .addHelpText('after', DETACH_HELP)
    .action(async (what: string, options: { force?: boolean }) => {
      await ends(detachCommand(socket(), what, options));
    });
  for (const [name, description] of Object.entries(PROGRAMS)) {
    // Here for the help; cli/main.ts runs them without loading any of this.
    zow.command(`${name} [arguments...]`).description(description).helpOption(false).allowUnknownOption();
  }
  return zow;
}

function positive(zow: Command, what: string, text: string): number {
  const value = Number(text);
  // A timer has 31 bits of milliseconds.
  const isGood = what === 'count' ? Number.isSafeInteger(value) && value > 0 : value >= 0.1 && value <= 86_400;
  if (!isGood)
    zow.error(`zow: top: ${what} '${text}' is not ${what === 'count' ? 'a positive number' : '0.1 to 86400 seconds'}`);
  return value;
}

const UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** Milliseconds. */
function duration(text: string): number {
  if (text === 'forever') return Infinity;
  const [, number, unit] = /^(\d{1,9}(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError('It is a time such as 500ms, 30s, 5m or 2h, or forever.');
  return Number(number) * UNITS_MS[unit as keyof typeof UNITS_MS];
}

function eventId(text: string): [eid: number, seconds: number | undefined] {
  const [, eid, seconds] = /^(\d{1,15})(?:@(\d{1,15}))?$/.exec(text) ?? [];
  if (eid === undefined) throw new InvalidArgumentError('It is a number such as 42, or 42@1795387691.');
  return [Number(eid), seconds === undefined ? undefined : Number(seconds)];
}

async function checkCommand(file: string, socket: string | undefined): Promise<number> {
  try {
    const config = loadConfig(file, { defaultSocket: socket ?? defaultSocketPath() });
    const { text, errors } = await check(socket === undefined ? config : { ...config, socket });
    print(1, text);
    if (errors.length === 0) return ExitCode.ok;
    print(2, errors.map((error) => `zow: ${error}\n`).join(''));
    return ExitCode.usage;
  } catch (error) {
    return explain(error);
  }
}
