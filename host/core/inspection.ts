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
  readonly #running: Requests<Waiter>;
  /** Arguments of the module that it refused: their index and why. */
  readonly refusedOptions: { readonly index: number; readonly errno: number }[] = [];

  constructor(module: WasmModule<CoreExports>) {
    this.#module = module;
    this.#running = new Requests(() => module.scheduler.kick());
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

  /** The core is gone: what runs fails, and whatever comes. */
  end(error: Error): void {
    this.#running.end(error);
  }

  #inspect(op: number, text: string): Promise<Buffer> {
    const { exports, memory } = this.#module;
    const bytes = Buffer.from(`${text}\0`);
    const start = (id: number): number => {
      const address = exports.alloc(bytes.length);
      if (address === 0) return -Errno.ENOMEM;
      memory.view(address, bytes.length).set(bytes);
      return exports.inspect(id, op, address);
    };
    return new Promise((resolve, reject) => {
      const request = { what: text, resolve, reject };
      this.#running.submit({ request, what: text, start, isPatient: false });
    });
  }
}
