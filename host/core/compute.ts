import zlib from 'node:zlib';
import type { Memory } from '../runtime/memory.ts';

/** The imports of compute.c: what the host's native code computes faster than the module. */
export function computeImports(memory: Memory): Record<string, WebAssembly.ImportValue> {
  return {
    deflate: (source: number, sourceLength: number, dest: number, destLength: number, level: number) =>
      into(memory, dest, destLength, () => zlib.deflateSync(memory.view(source, sourceLength), { level })),
    inflate: (source: number, sourceLength: number, dest: number, destLength: number) =>
      into(memory, dest, destLength, () =>
        // A damaged block can inflate to anything: never to more than there is room for.
        zlib.inflateSync(memory.view(source, sourceLength), { maxOutputLength: destLength }),
      ),
  };
}

/** Bytes written to `dest`, or -1 when the result does not fit or cannot be computed. */
function into(memory: Memory, dest: number, destLength: number, compute: () => Buffer): number {
  let result: Buffer;
  try {
    result = compute();
  } catch {
    return -1;
  }
  if (result.length > destLength) return -1;
  memory.view(dest, result.length).set(result);
  return result.length;
}
