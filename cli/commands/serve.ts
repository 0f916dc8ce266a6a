import { launcher } from '../../host/assets.ts';
import type { Config } from '../../host/config/config.ts';
import { loadConfig } from '../../host/config/load.ts';
import { ConfigError } from '../../host/config/problem.ts';
import { defaultSocketPath } from '../../host/ioctl/socket-path.ts';
import { log } from '../../host/log.ts';
import { print } from '../../host/print.ts';
import { CoreLostError, ExitCode, StartError } from '../../host/serve/errors.ts';
import { ZowHost, type ZowHostOptions } from '../../host/zow.ts';
import { disableCoreDumps } from './core-dump.ts';
import { hints } from './hints.ts';

const FAREWELL_MS = 100;
/**
 * Signals this soon after the first mean the same: timeout(1) sends one to its child and one to the group, a terminal and
 * a supervisor may both pass one on.
 */
const SAME_WISH_MS = 500;

export interface ServeOptions extends ZowHostOptions {
  /** Serves on this socket instead of the configuration's. */
  readonly socket?: string | undefined;
  /** Prints what to try next. */
  readonly hints?: boolean;
}

/**
 * `zow serve`: runs a host until SIGTERM, SIGINT or SIGHUP, then exports its pools. Resolves with the exit code; a second
 * signal ends the process at once.
 */
export async function serve(file: string, options: ServeOptions = {}): Promise<number> {
  const started = performance.now();
  disableCoreDumps();
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'internal error');
    process.exit(ExitCode.panic);
  });
  let host: ZowHost;
  let stop: Promise<string>;
  try {
    const config = configOf(file, options);
    // Not before: the file may be a pipe that nobody writes.
    stop = onSignal();
    if (config.logLevel !== undefined && (process.env.ZOW_LOG ?? '') === '') log.level = config.logLevel;
    const engines = process.env.ZOW_ENGINES === 'processes' ? 'processes' : 'one';
    host = await ZowHost.start(config, { engines, ...options });
  } catch (error) {
    return explain(error);
  }
  log.info(
    {
      socket: host.socket,
      pools: host.config.pools.map(({ name }) => name),
      nbd: host.nbdAddresses.map(({ unix, tcp }) => unix ?? tcp),
      ...(host.iscsiAddresses.length > 0 && { iscsi: host.iscsiAddresses.map(({ tcp }) => tcp) }),
      ...(host.httpAddress !== undefined && { http: host.httpAddress.unix ?? host.httpAddress.tcp }),
      release: host.core.release,
      startMs: Math.round(performance.now() - started),
    },
    'ready',
  );
  if (options.hints === true) {
    const { config, nbdAddresses, httpAddress } = host;
    print(1, hints({ config, nbdAddresses, httpAddress, defaultSocket: defaultSocketPath(), launcher }));
  }
  const end = await Promise.race([stop, host.lost]);
  if (typeof end !== 'string') {
    // The clients have been told why; this is the time it takes to reach them.
    await new Promise((resolve) => setTimeout(resolve, FAREWELL_MS));
    return ExitCode.panic;
  }
  log.info({ signal: end }, 'shutting down');
  try {
    await Promise.race([host.close(), host.lost.then((panic) => Promise.reject(new CoreLostError(panic)))]);
  } catch (error) {
    return explain(error);
  }
  log.info('ended');
  return ExitCode.ok;
}

function configOf(file: string, { socket }: ServeOptions): Config {
  const config = loadConfig(file, { defaultSocket: socket ?? defaultSocketPath() });
  return socket === undefined ? config : { ...config, socket };
}

/** Says on stderr why the host does not run, one line a reason; the exit code. */
export function explain(error: unknown): number {
  if (error instanceof ConfigError) {
    print(2, `${error.message}\n`);
    return ExitCode.usage;
  }
  if (error instanceof CoreLostError) {
    print(2, `zow: ${error.message}\n`);
    return ExitCode.panic;
  }
  if (error instanceof StartError) {
    print(2, error.reasons.map((reason) => `zow: ${reason}\n`).join(''));
    return ExitCode.failed;
  }
  log.fatal({ err: error }, 'internal error');
  return ExitCode.panic;
}

/** Resolves with the name of the first signal that asks to end; at a second one, not sent with the first, the process ends. */
function onSignal(): Promise<string> {
  return new Promise((resolve) => {
    let firstAt_ms: number | undefined;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (firstAt_ms !== undefined) {
          if (performance.now() - firstAt_ms < SAME_WISH_MS) return;
          log.warn({ signal }, 'ended at once; pools are left as by a crash');
          process.exit(ExitCode.killed);
        }
        firstAt_ms = performance.now();
        resolve(signal);
      });
    }
  });
}
