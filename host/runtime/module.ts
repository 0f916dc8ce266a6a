import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Memory } from './memory.ts';
import { type FiberExports, Scheduler } from './scheduler.ts';
import { Wasi } from './wasi.ts';

/** The exports of wasm/libc. */
export interface LibcExports extends FiberExports {
  start(): void;
  alloc(size: number): number;
  free(address: number): void;
  'heap-live'(): number;
}

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
  readonly log: (level: number, text: string) => void;
  readonly onBrokenPipe?: (fd: number) => void;
}

/**
 * A WebAssembly module of this project on its libc and fibers: the core, or a program. `start` runs main() on the main
 * fiber; the rest is the scheduler's.
 */
export class WasmModule<Exports extends LibcExports> {
  readonly memory: Memory;
  readonly scheduler: Scheduler;
  readonly wasi: Wasi;
  readonly exports: Exports;

  /** `imports` are those of interface `zow` besides the libc's. */
  constructor(
    options: ModuleOptions,
    imports: (module: WasmModule<Exports>) => Record<string, WebAssembly.ImportValue>,
  ) {
    const memory = new Memory(options.memoryBytes);
    this.memory = memory;
    this.scheduler = new Scheduler({ onTrap: (fiber, error) => options.onTrap(this.fiberName(fiber), error) });
    this.wasi = new Wasi({
      memory,
      args: options.args,
      env: options.env,
      exit: options.exit,
      ...(options.onBrokenPipe === undefined ? {} : { onBrokenPipe: options.onBrokenPipe }),
    });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(options.file)), {
      env: { memory: memory.wasm },
      wasi_snapshot_preview1: this.wasi.imports,
      zow: {
        ...this.scheduler.imports,
        log: (level: number, text: number, length: number) => options.log(level, memory.text(text, length)),
        panic: (text: number, length: number) => options.onPanic(memory.text(text, length)),
        random: (address: number, length: number) => {
          randomFillSync(memory.view(address, length));
        },
        ...imports(this),
      },
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
