import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Memory } from './memory.ts';
import { Scheduler } from './scheduler.ts';
import type { LibcExports, LibcImports } from './seam.ts';
import { type Trace, Wasi } from './wasi.ts';

export interface ModuleOptions {
  /** The .wasm file. */
  readonly file: string;
  /** Bytes of memory; it never grows. */
  readonly memoryBytes: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly exit: (code: number) => never;
  /** A panic (VERIFY, abort): `text` says where and why. Must not return. */
  readonly onPanic: (text: string) => never;
  /** A trap of fiber `name`. */
  readonly onTrap: (name: string, error: unknown) => void;
  readonly onBrokenPipe?: (fd: number) => void;
  /** Folders that are not where the module looks for them. */
  readonly folders?: Readonly<Record<string, string>>;
  /** Is told of every WASI call. */
  readonly trace?: Trace | undefined;
}

/**
 * A WebAssembly module of this project on its libc and fibers: the core, or a program. `start` runs main() on the main
 * fiber; the rest is the scheduler's.
 */
export class WasmModule<Exports extends LibcExports, Imports extends LibcImports = LibcImports> {
  readonly memory: Memory;
  readonly scheduler: Scheduler;
  readonly wasi: Wasi;
  readonly exports: Exports;

  /** `imports` are those of the module's world (wasm/zow.wit) besides the libc's. */
  constructor(options: ModuleOptions, imports: (module: WasmModule<Exports>) => Omit<Imports, keyof LibcImports>) {
    const memory = new Memory(options.memoryBytes);
    this.memory = memory;
    this.scheduler = new Scheduler({ onTrap: (fiber, error) => options.onTrap(this.fiberName(fiber), error) });
    this.wasi = new Wasi({
      memory,
      args: options.args,
      env: options.env,
      exit: options.exit,
      trace: options.trace,
      folders: options.folders,
      ...(options.onBrokenPipe === undefined ? {} : { onBrokenPipe: options.onBrokenPipe }),
    });
    const libc: LibcImports = {
      ...this.scheduler.imports,
      panic: (text, length) => options.onPanic(memory.text(text, length)),
      random: (address, length) => {
        randomFillSync(memory.view(address, length));
      },
    };
    const instance = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(options.file)), {
      env: { memory: memory.wasm },
      wasi_snapshot_preview1: this.wasi.imports,
      zow: { ...libc, ...imports(this) },
    });
    this.exports = instance.exports as unknown as Exports;
    this.scheduler.attach(this.exports);
  }

  start(): void {
    this.exports.start();
    this.scheduler.kick();
  }

  fiberName(fiber: number): string {
    const address = this.exports['fiber-name'](fiber);
    return address === 0 ? 'unknown' : this.memory.string(address);
  }
}
