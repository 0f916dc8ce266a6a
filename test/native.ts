import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const build = 'build/2.4.3/native';

/**
 * Compiles a C program of the tests to `output` and links it with `libraries` of upstream's and with the client, as the native
 * programs are linked (`make native`).
 */
export function compileNative(source: string, output: string, ...libraries: string[]): void {
  const wraps = globSync('cli/src/*.c', { cwd: root })
    .flatMap((file) => [...readFileSync(join(root, file), 'utf8').matchAll(/^__wrap_(\w+)\(/gm)])
    .map((match) => `-Wl,--wrap=${match[1]}`);
  const archives = [...libraries, 'client', ...libraries].map((library) => `${build}/lib/${library}.a`);
  const args = [`@${build}/flags/client`, source, ...archives, '-pthread', ...new Set(wraps), '-o', output];
  execFileSync('gcc', libraries.includes('libnvpair') ? [...args, '-ltirpc'] : args, { cwd: root, stdio: 'pipe' });
}
