import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { readWasm, release, wasmFile } from '../assets.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { log, tracer } from '../log.ts';
import { WasmModule } from '../runtime/module.ts';
import type { CoreExports, CoreImports } from '../runtime/seam.ts';
import type { Core, CoreOptions, CorePanic, LoadCore, TunableSetting } from './api.ts';
import { computeImports } from './compute.ts';
import { CoreDevices } from './devices.ts';
import { CoreInspection } from './inspection.ts';
import { CoreSessions } from './sessions.ts';
import { CoreVolumes } from './volumes.ts';

/** Thrown through the module's frames when it ends itself: nothing in it runs again. */
class CoreEnded extends Error {}

/**
 * Starts OpenZFS's core (build/<release>/wasm's module), without pools. Resolves when it takes requests, within tens of
 * milliseconds.
 */
export const loadCore: LoadCore = (options: CoreOptions): Promise<Core> =>
  new Promise((resolve, reject) => {
    const lost = Promise.withResolvers<CorePanic>();
    const tunables = withCacheFile(options);
    let ended = false;
    /** Nothing in the module runs again, and nobody waits for it. */
    const stop = (error: Error): void => {
      ended = true;
      module.end(error);
      devices?.end();
      sessions?.end(error);
      volumes?.end(error);
      inspection?.end(error);
    };
    const end = (panic: CorePanic): void => {
      if (ended) return;
      log.fatal({ ...panic }, 'the core ended');
      const error = new ErrnoError(Errno.EIO, `the core ended: ${panic.message}`);
      reject(error);
      stop(error);
      lost.resolve(panic);
    };
    let sessions: CoreSessions | undefined;
    let volumes: CoreVolumes | undefined;
    let devices: CoreDevices | undefined;
    let inspection: CoreInspection | undefined;
    const module = new WasmModule<CoreExports, CoreImports>(
      {
        file: wasmFile('zow'),
        read: readWasm,
        memoryBytes: options.memoryBytes,
        args: ['zow', ...tunables.map(({ name, value }) => `${name}=${value}`)],
        trace: tracer('wasi'),
        env: { HOSTNAME: hostname(), ZFS_STACK_SIZE: '131072', ...hostid() },
        exit: (code) => {
          end({ message: `exit ${code}` });
          throw new CoreEnded();
        },
        onPanic: (text) => {
          end({ ...parsePanic(text), stack: wasmFrames(new Error().stack) });
          throw new CoreEnded();
        },
        onTrap: (fiber, error) => {
          if (error instanceof CoreEnded) return;
          end({ message: `trap: ${String(error)}`, fiber, stack: wasmFrames((error as Error).stack) });
        },
      },
      (self) => {
        sessions = new CoreSessions(self);
        volumes = new CoreVolumes(self);
        devices = new CoreDevices(self, options.openDevice);
        inspection = new CoreInspection(self);
        return {
          ...sessions.imports,
          ...volumes.imports,
          ...devices.imports,
          ...inspection.imports,
          ...computeImports(self.memory),
          log: (level, address, length) => {
            const text = self.memory.text(address, length);
            if (level >= 50) log.error(text);
            else if (level >= 40) log.warn(text);
            else log.info(text);
          },
          ready: (cmdSize, hostid) => {
            resolve({
              release,
              cmdSize,
              get hostid() {
                return currentHostid(hostid >>> 0);
              },
              volumes: volumes!,
              inspector: inspection!,
              refusedTunables: inspection!.refusedOptions.map(({ index, errno }) => ({ ...tunables[index]!, errno })),
              lost: lost.promise,
              get longestTurn() {
                return module.scheduler.longestTurn;
              },
              usage: () => ({
                heapBytes: options.memoryBytes,
                heapUsedBytes: ended ? 0 : module.exports['heap-live']() >>> 0,
                fibers: ended ? 0 : module.exports['fiber-count'](),
              }),
              open: (client) => sessions!.open(client),
              close: async () => {
                if (!ended) stop(new ErrnoError(Errno.ESHUTDOWN, 'the core is closed'));
                await devices!.closeAll();
              },
            });
          },
        };
      },
    );
    module.start();
  });

/** Where the cache file of pools is whose property `cachefile` is the default. */
export const CACHE_FILE_TUNABLE = 'spa_config_path';

/** A pool whose cachefile is the default has it there, unless the configuration chose a place (spa_config_path). */
function withCacheFile({ tunables = [], cacheFile = '' }: CoreOptions): readonly TunableSetting[] {
  const name = CACHE_FILE_TUNABLE;
  return tunables.some((tunable) => tunable.name === name) ? tunables : [...tunables, { name, value: cacheFile }];
}

/** As the core's zone_get_hostid(): /etc/hostid can be made while the host runs. `atStart` is what the core found then. */
export function currentHostid(atStart: number): number {
  if (process.env.ZFS_HOSTID !== undefined) return atStart;
  try {
    return readFileSync('/etc/hostid').readUInt32LE(0);
  } catch {
    return atStart;
  }
}

/** Upstream's own variable for the hostid, where /etc/hostid is not to be taken. */
function hostid(): { ZFS_HOSTID?: string } {
  const { ZFS_HOSTID } = process.env;
  return ZFS_HOSTID === undefined ? {} : { ZFS_HOSTID };
}

/** The module's own functions of a stack, innermost first. */
function wasmFrames(stack: string | undefined): readonly string[] {
  return [...(stack ?? '').matchAll(/at (?:zow\.wasm\.)?(\S+) \(wasm:/g)].map((match) => match[1]!);
}

/** `VERIFY(…) failed at module/zfs/spa.c:1234 [pool tank] [fiber txg_sync]` (wasm/core/platform/panic.c, wasm/libc/start.c). */
export function parsePanic(text: string): CorePanic {
  const match = /^(.*?)(?: at (\S+):(\d+) \[pool ([^\]]*)\])? \[fiber ([^\]]*)\]$/s.exec(text);
  if (match === null) return { message: text };
  const [, message = text, file, line, pool, fiber] = match;
  return {
    message,
    ...(file === undefined ? {} : { file, line: Number(line) }),
    ...(pool === undefined || pool === '' ? {} : { pool }),
    ...(fiber === undefined ? {} : { fiber }),
  };
}
