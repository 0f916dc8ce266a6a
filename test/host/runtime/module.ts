import { execFileSync } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { release } from '../../../host/assets.ts';
import { WasmModule } from '../../../host/runtime/module.ts';
import { ioPending, type LibcExports, type LibcImports, type Seam } from '../../../host/runtime/seam.ts';
import { findTools } from '../../../zfs-src/tools.ts';
import { WASM_LINK } from '../../../zfs-src/units.ts';

const root = join(import.meta.dirname, '../../..');
const build = `build/${release}/wasm`;

/** Compiles a C file of this folder and links it with the built wasm/libc and musl. The .wasm goes when the process ends. */
export function compile(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-runtime-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const tools = findTools('wasm');
  const [object, file] = [join(folder, 'main.o'), join(folder, 'main.wasm')];
  const path = join('test/host/runtime', source);
  execFileSync(tools.clang, [`@${build}/flags/libc`, '-Werror', '-c', path, '-o', object], { cwd: root });
  const libc = globSync(`${build}/obj/libc/wasm/libc/*.o`, { cwd: root });
  const inputs = [object, ...libc, `${build}/lib/musl.a`, tools.wasmBuiltins];
  execFileSync(tools.wasmLd, [...WASM_LINK, ...inputs, '-o', file], { cwd: root });
  return file;
}

/** The imports of scenario.h, besides libc's. */
type ScenarioImports = LibcImports &
  Seam['logging'] & { readonly 'test-io': (fiber: number, milliseconds: number, result: number) => number };

export type Scenario<Exports extends LibcExports = LibcExports> = WasmModule<Exports>;

/** Thrown through the module's frames when it ends. */
class Ended extends Error {}

/** How a module ended: by exit(), by a panic, or by a trap of the fiber that is named. */
export interface End {
  readonly code?: number;
  readonly panic?: string;
  readonly trap?: string;
}

export interface Run<Exports extends LibcExports> {
  readonly module: WasmModule<Exports>;
  /** What it logged up to now. */
  readonly lines: readonly string[];
  readonly ended: Promise<End>;
}

/** Prepares a module whose main() runs the scenario that its arguments name; start() is the caller's. */
export function load<Exports extends LibcExports = LibcExports>(
  file: string,
  args: readonly string[] = [],
  memoryBytes = 128 * 1024 * 1024,
): Run<Exports> {
  const lines: string[] = [];
  const { promise, resolve } = Promise.withResolvers<End>();
  const end = (how: End): never => {
    module.scheduler.stop();
    resolve(how);
    throw new Ended();
  };
  const module = new WasmModule<Exports, ScenarioImports>(
    {
      file,
      memoryBytes,
      args: ['scenario', ...args],
      env: {},
      exit: (code) => end({ code }),
      onPanic: (panic) => end({ panic }),
      onTrap: (trap, error) => {
        if (!(error instanceof Ended)) resolve({ trap });
      },
    },
    (self) => ({
      log: (_level, text, length) => {
        lines.push(self.memory.text(text, length));
      },
      'test-io': (fiber, milliseconds, result) => {
        if (milliseconds < 0) return result;
        if (milliseconds === 0) self.scheduler.complete(fiber, result);
        else setTimeout(() => self.scheduler.complete(fiber, result), milliseconds);
        return ioPending;
      },
    }),
  );
  return { module, lines, ended: promise };
}

/** Runs a scenario to its end; the lines it logged. Throws when it does not end with exit(0). */
export async function run(file: string, ...args: string[]): Promise<readonly string[]> {
  const { module, lines, ended } = load(file, args);
  module.start();
  const end = await ended;
  if (end.code !== 0) throw new Error(`${args.join(' ')}: ${JSON.stringify(end)}; ${lines.join(', ')}`);
  return lines;
}
