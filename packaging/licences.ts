import { globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The licences of what is in the executable file: ours, those of what is in the bundle, and Node's with what is in that. */
export function licences(): string {
  const node = join(dirname(process.execPath), '../LICENSE');
  return ['LICENSE', 'NOTICE', 'dist/LICENSES.txt', ...globSync('dist/licenses/**/*').sort(), node]
    .filter((file) => statSync(file).isFile())
    .map((file) => {
      const title = file === node ? `Node.js ${process.version}` : file.replace(/^dist\//, '');
      return `${title}\n${'='.repeat(72)}\n\n${readFileSync(file, 'utf8').trim()}\n`;
    })
    .join('\n\n');
}
