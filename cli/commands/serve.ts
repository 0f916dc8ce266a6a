import { isatty } from 'node:tty';
import { launcher } from '../../host/assets.ts';
import type { Config } from '../../host/config/config.ts';
import { loadConfig } from '../../host/config/load.ts';
import { ConfigError } from '../../host/config/problem.ts';
import { defaultSocketPath } from '../../host/ioctl/socket-path.ts';
import { log, setLogFormat } from '../../host/log.ts';
import { inheritSockets, unusedSockets } from '../../host/net/inherited.ts';
import { print } from '../../host/print.ts';
import { chosenEngines } from '../../host/serve/engines.ts';
import { CoreLostError, ExitCode, StartError } from '../../host/serve/errors.ts';
import { ServiceManager } from '../../host/serve/service-manager.ts';
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
  /** Prints what to try next. */
  readonly hints?: boolean;
}

/**
 * `zow serve`: runs a host until SIGTERM or SIGINT, then exports its pools. Resolves with the exit code; a second signal ends the
 * process at once. SIGHUP reads the configuration again.
 */
export async function serve(file: string, options: ServeOptions = {}): Promise<number> {
  const started = performance.now();
  disableCoreDumps();
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'internal error');
    process.exit(ExitCode.panic);
  });
  const manager = new ServiceManager(log);
  let host: ZowHost;
  let signals: Signals;
  try {
    inheritSockets();
    const config = configOf(file, options);
    // Not before: the file may be a pipe that nobody writes.
    signals = new Signals();
    applyLog(config);
    manager.status('imports its pools');
    host = await ZowHost.start(config, { engines: chosenEngines(), ...options });
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
  for (const { name, address } of unusedSockets())
    log.warn(
      { name, address },
      'a socket of the service manager is in no section of the configuration; nobody answers there',
    );
  manager.ready(statusOf(host));
  if (options.hints === true) {
    const { config, nbdAddresses, httpAddress } = host;
    print(1, hints({ config, nbdAddresses, httpAddress, defaultSocket: defaultSocketPath(), launcher }));
  }
  signals.onReload(async () => {
    manager.reloading();
    await reload(host);
    manager.ready(statusOf(host));
  });
  const end = await Promise.race([signals.end, host.lost]);
  if (typeof end !== 'string') {
    // The clients have been told why; this is the time it takes to reach them.
    await new Promise((resolve) => setTimeout(resolve, FAREWELL_MS));
    return ExitCode.panic;
  }
  log.info({ signal: end }, 'shutting down');
  manager.stopping();
  try {
    await Promise.race([host.close(), host.lost.then((panic) => Promise.reject(new CoreLostError(panic)))]);
  } catch (error) {
    return explain(error);
  }
  log.info('ended');
  return ExitCode.ok;
}

/** Reads the configuration again; what came of it is in the log. */
async function reload(host: ZowHost): Promise<void> {
  try {
    const { changes, fixed, left, failed } = await host.reload();
    applyLog(host.config);
    for (const change of changes) log.info({ change }, 'configuration');
    for (const reason of fixed) log.warn(`${reason}: only a new start changes that`);
    for (const reason of left) log.info(reason);
    for (const reason of failed) log.error(reason);
    log.info({ changes: changes.length }, 'configuration read again');
  } catch (error) {
    // One line a reason, as at the start; and the host goes on.
    const reasons = error instanceof StartError ? error.reasons : (error as Error).message.split('\n');
    for (const reason of reasons) log.error(reason);
    log.error('the configuration was not taken over');
  }
}

/** What the environment says goes before. */
function applyLog({ logLevel, logFormat }: Config): void {
  if ((process.env.ZOW_LOG ?? '') === '') log.level = logLevel ?? 'info';
  setLogFormat(logFormat ?? 'auto');
}

/** For who asks the service manager. */
function statusOf({ config }: ZowHost): string {
  const pools = config.pools.map(({ name }) => name).join(', ');
  return pools === '' ? 'serves; no pool is in the configuration' : `serves ${pools}`;
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

/** What signals ask for. */
class Signals {
  /** Resolves with the name of the first signal that asks to end; at a second one, not sent with the first, the process ends. */
  readonly end: Promise<string>;
  readonly #hasTerminal = isatty(0);
  #reload: (() => Promise<void>) | undefined;
  #isReloading = false;
  #isAskedAgain = false;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.end = promise;
    let firstAt_ms: number | undefined;
    const end = (signal: string): void => {
      if (firstAt_ms !== undefined) {
        if (performance.now() - firstAt_ms < SAME_WISH_MS) return;
        log.warn({ signal }, 'ended at once; pools are left as by a crash');
        process.exit(ExitCode.killed);
      }
      firstAt_ms = performance.now();
      resolve(signal);
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(signal));
    process.on('SIGHUP', () => {
      // The terminal that it was started on is closed: nobody is there who could end it.
      if (this.#hasTerminal && !isatty(0)) end('SIGHUP');
      else if (firstAt_ms === undefined) void this.#again();
    });
  }

  /** What SIGHUP does from now on; one that came before does it now. */
  onReload(reload: () => Promise<void>): void {
    this.#reload = reload;
    if (this.#isAskedAgain) void this.#again();
  }

  /** One at a time; however often it is asked for meanwhile, once more after that. */
  async #again(): Promise<void> {
    this.#isAskedAgain = true;
    if (this.#reload === undefined || this.#isReloading) return;
    this.#isReloading = true;
    while (this.#isAskedAgain) {
      this.#isAskedAgain = false;
      await this.#reload();
    }
    this.#isReloading = false;
  }
}
