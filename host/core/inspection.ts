import { Errno, ErrnoError } from '../errno.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import type { WasmModule } from '../runtime/module.ts';
import type { CoreExports, Seam } from '../runtime/seam.ts';
import type { Inspector } from './dev-zfs.ts';
import { Requests } from './requests.ts';

/** Operations of `inspect` (wasm/zow.wit). */
const Op = { kstats: 0, kstatRead: 1, kstatClear: 2, tunables: 3, tunableSet: 4 } as const;

interface Waiter {
  readonly what: string;
  readonly resolve: (packed: Buffer) => void;
  readonly reject: (error: Error) => void;
}

/** The host's half of inspect.c: kstats and tunables. */
export class CoreInspection implements Inspector {
  readonly #module: WasmModule<CoreExports>;
  readonly #running = new Requests<Waiter>();
  /** Arguments of the module that it refused: their index and why. */
  readonly refusedOptions: { readonly index: number; readonly errno: number }[] = [];

  constructor(module: WasmModule<CoreExports>) {
    this.#module = module;
  }

  get imports(): Seam['inspect-events'] {
    return {
      'inspect-done': (id, errno, packed, length) => {
        const { what, resolve, reject } = this.#running.take(id);
        if (errno !== 0) reject(new ErrnoError(errno, what));
        else resolve(this.#module.memory.copy(packed, length));
      },
      'option-refused': (index, errno) => {
        this.refusedOptions.push({ index, errno });
      },
    };
  }

  async kstatPaths(): Promise<readonly string[]> {
    const paths = decodeNativeNvlist(await this.#inspect(Op.kstats, '')).get('paths');
    return (paths ?? []) as readonly string[];
  }

  kstat(path: string): Promise<Uint8Array> {
    return this.#inspect(Op.kstatRead, path);
  }

  async clearKstat(path: string): Promise<void> {
    await this.#inspect(Op.kstatClear, path);
  }

  tunables(): Promise<Uint8Array> {
    return this.#inspect(Op.tunables, '');
  }

  async setTunable(name: string, value: string): Promise<void> {
    await this.#inspect(Op.tunableSet, `${name}=${value}`);
  }

  /** The core is gone: what runs fails. */
  abort(error: Error): void {
    for (const waiter of this.#running.drain()) waiter.reject(error);
  }

  #inspect(op: number, text: string): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const { exports, memory, scheduler } = this.#module;
      const bytes = Buffer.from(`${text}\0`);
      const address = exports.alloc(bytes.length);
      if (address === 0) {
        reject(new ErrnoError(Errno.ENOMEM, text));
        return;
      }
      memory.bytes.set(bytes, address >>> 0);
      const id = this.#running.add({ what: text, resolve, reject });
      const error = exports.inspect(id, op, address);
      if (error !== 0) {
        this.#running.take(id);
        reject(new ErrnoError(-error, text));
      }
      scheduler.kick();
    });
  }
}
