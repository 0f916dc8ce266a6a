import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const build = 'build/2.4.3/native';

/** Compiles client-driver.c to `output` and links it with the client as the native programs are linked (`make native`). */
export function compileDriver(output: string): void {
  const wraps = globSync('cli/src/*.c', { cwd: root })
    .flatMap((file) => [...readFileSync(join(root, file), 'utf8').matchAll(/^__wrap_(\w+)\(/gm)])
    .map((match) => `-Wl,--wrap=${match[1]}`);
  const flags = `@${build}/flags/client`;
  const inputs = ['test/cli/client-driver.c', `${build}/lib/client.a`];
  execFileSync('gcc', [flags, ...inputs, '-pthread', ...new Set(wraps), '-o', output], { cwd: root, stdio: 'pipe' });
}
