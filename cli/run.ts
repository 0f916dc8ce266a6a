import { existsSync } from 'node:fs';
import { wasmFile } from '../host/assets.ts';

/** Runs one of upstream's programs in this process and ends it with the program's exit code. */
export async function main(program: string, _args: readonly string[]): Promise<void> {
  const file = wasmFile(program);
  process.stderr.write(`${program}: ${existsSync(file) ? `cannot run ${file}` : `${file} is missing; run make`}\n`);
  process.exit(1);
}
