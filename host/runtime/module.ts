import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { assert } from '../assert.ts';
import { Memory } from './memory.ts';
import { Scheduler } from './scheduler.ts';
import type { LibcExports, LibcImports } from './seam.ts';
import { type Folders, type Trace, Wasi } from './wasi.ts';

export interface ModuleOptions {
  /** The .wasm file. */
  readonly file: string;
  /** Reads it. Default: from the file system. */
  readonly read?: (file: string) => Uint8Array<ArrayBuffer>;
  /** Bytes of memory; it never grows. */
  readonly memoryBytes: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly exit: (code: number) => never;
  /** A panic (VERIFY, abort): `text` says where and why. Must not return. */
  readonly onPanic: (text: string) => never;
  /** A trap of fiber `name`; `the host`: in a call from outside. */
  readonly onTrap: (name: string, error: unknown) => void;
  readonly onBrokenPipe?: (fd: number) => void;
  /** Folders that are not where the module looks for them. */
  readonly folders?: Folders;
  /** Is told of every WASI call. */
  readonly trace?: Trace | undefined;
}

/** By file. What V8 has compiled and optimised of a module stays with it, for the next core of this process. */
const modules = new Map<string, WebAssembly.Module>();

function compiled({ file, read = readFileSync }: ModuleOptions): WebAssembly.Module {
  let module = modules.get(file);
  if (module === undefined) {
    module = new WebAssembly.Module(read(file));
    modules.set(file, module);
  }
  return module;
}

/** What may be asked at any time, also after the end (wasm/zow.wit). */
const readable: ReadonlySet<string> = new Set(['fiber-name', 'fiber-running']);

/**
 * A WebAssembly module of this project on its libc and fibers: the core, or a program. `start` runs main() on the main
 * fiber; the rest is the scheduler's.
 */
export class WasmModule<Exports extends LibcExports, Imports extends LibcImports = LibcImports> {
  readonly memory: Memory;
  readonly scheduler: Scheduler;
  readonly wasi: Wasi;
  /** A trap in one of them is told to `onTrap`; after `end` each throws why. */
  readonly exports: Exports;
  readonly #raw: Exports;
  #ended: Error | undefined;

  /** `imports` are those of the module's world (wasm/zow.wit) besides the libc's. */
  constructor(options: ModuleOptions, imports: (module: WasmModule<Exports>) => Omit<Imports, keyof LibcImports>) {
    const memory = new Memory(options.memoryBytes);
    this.memory = memory;
    this.scheduler = new Scheduler({
      onTrap: (fiber, error) => options.onTrap(this.fiberName(fiber), error),
      nameOf: (fiber) => this.fiberName(fiber),
    });
    const onTrap = (error: unknown) => options.onTrap(this.fiberName(0), error);
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
    const instance = new WebAssembly.Instance(compiled(options), {
      env: { memory: memory.wasm },
      wasi_snapshot_preview1: this.wasi.imports,
      zow: { ...libc, ...imports(this) },
    });
    this.#raw = instance.exports as unknown as Exports;
    this.exports = this.#guard(instance.exports, onTrap);
    this.scheduler.attach(this.#raw);
  }

  /** Nothing in the module runs again: its fibers do not, and its exports throw `why`. */
  end(why: Error): void {
    this.#ended ??= why;
    this.scheduler.stop();
  }

  #guard(exports: object, onTrap: (error: unknown) => void): Exports {
    const guarded = Object.entries(exports).map(([name, value]) => {
      if (typeof value !== 'function' || readable.has(name)) return [name, value];
      const call = value as (...args: unknown[]) => unknown;
      assert(call.length <= 9, `${name} takes ${call.length} arguments`);
      // Not a rest parameter, which is an array for each call; a module's function ignores what it does not take.
      type Value = number | undefined;
      const checked = (a: Value, b: Value, c: Value, d: Value, e: Value, f: Value, g: Value, h: Value, i: Value) => {
        if (this.#ended !== undefined) throw this.#ended;
        try {
          return call(a, b, c, d, e, f, g, h, i);
        } catch (error) {
          onTrap(error);
          throw this.#ended ?? error;
        }
      };
      return [name, checked];
    });
    return Object.fromEntries(guarded) as Exports;
  }

  start(): void {
    this.exports.start();
    this.scheduler.kick();
  }

  fiberName(fiber: number): string {
    if (fiber === 0) return 'the host';
    const address = this.#raw['fiber-name'](fiber);
    return address === 0 ? 'unknown' : this.memory.string(address);
  }
}
