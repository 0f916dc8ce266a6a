/** The part of the WebAssembly JavaScript interface that the runtime uses; Node's types leave it to the DOM's. */
declare namespace WebAssembly {
  type ImportValue = ((...args: never[]) => unknown) | Suspending<(...args: never[]) => Promise<unknown>> | Memory;
  class Memory {
    constructor(descriptor: { initial: number; maximum: number; shared: boolean });
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Readonly<Record<string, ImportValue>>>);
    readonly exports: Record<string, unknown>;
  }
  /** JavaScript Promise Integration: an import that suspends its caller until the promise settles. */
  class Suspending<Call extends (...args: never[]) => Promise<unknown>> {
    constructor(call: Call);
    private readonly call: Call;
  }
  /** An export that can be suspended, so that only promising() can call it. */
  interface Suspendable<Call extends (...args: never[]) => Promise<unknown>> {
    readonly promising: Call;
  }
  /** An export whose call returns a promise, because it can be suspended. */
  function promising<Call extends (...args: never[]) => Promise<unknown>>(call: Suspendable<Call>): Call;
}
