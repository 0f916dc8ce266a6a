import type { WasmModule } from '../../host/runtime/module.ts';
import type { ProgramExports } from '../../host/runtime/seam.ts';

/** A running program. */
export type Process = WasmModule<ProgramExports>;

/** The strings of a C array of them, which ends with NULL. */
export function stringArray({ memory }: Process, address: number): string[] {
  const strings: string[] = [];
  for (let at = address; memory.u32(at) !== 0; at += 4) strings.push(memory.string(memory.u32(at)));
  return strings;
}
