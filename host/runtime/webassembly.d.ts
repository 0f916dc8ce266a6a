/** The part of the WebAssembly JavaScript interface that the runtime uses; Node's types leave it to the DOM's. */
declare namespace WebAssembly {
  type ImportValue = ((...args: never[]) => unknown) | Suspending | Memory;
  class Memory {
    constructor(descriptor: { initial: number; maximum: number; shared: boolean });
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, ImportValue>>);
    readonly exports: Record<string, unknown>;
  }
  /** JavaScript Promise Integration: an import that suspends its caller until the promise settles. */
  class Suspending {
    constructor(call: (...args: never[]) => Promise<unknown>);
  }
  /** An export whose call returns a promise, because it can be suspended. */
  function promising(call: unknown): (...args: never[]) => Promise<unknown>;
}
