import type { LibcExports, WasmModule } from '../../host/runtime/module.ts';

/** A running program. */
export type Process = WasmModule<LibcExports>;

/** The strings of a C array of them, which ends with NULL. */
export function stringArray({ memory }: Process, address: number): string[] {
  const strings: string[] = [];
  for (let at = address; memory.u32(at) !== 0; at += 4) strings.push(memory.string(memory.u32(at)));
  return strings;
}
