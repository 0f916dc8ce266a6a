import { copyFileSync, globSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { release } from '../host/assets.ts';
import { run } from './run.ts';

/** What `make bundle` has built, of which the executable has all but the JavaScript. */
const BUNDLE = 'dist';

/**
 * Makes the one executable file: this Node, without its symbols, with the bundle, the WebAssembly modules, upstream's shared files and the
 * page's in it (Node's single executable applications). For the platform that it is made on.
 */
export async function makeSingle(folder: string, output: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const main = join(folder, 'single.mjs');
  await build({
    entryPoints: ['cli/single.ts'],
    outfile: main,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    minifySyntax: true,
    minifyWhitespace: true,
    // Names stay: what a stack says is for people.
    keepNames: false,
    define: { ZOW_BUNDLED: JSON.stringify(release) },
    banner: {
      js: `import { createRequire as zowCreateRequire } from 'node:module'; const require = zowCreateRequire(import.meta.url);`,
    },
    legalComments: 'none',
    logLevel: 'warning',
  });
  const node = join(folder, 'node');
  copyFileSync(process.execPath, node);
  // Symbols of functions of Node's own are a fifth of it, and what a stack of JavaScript or WebAssembly says is not in them.
  run('strip', ['--strip-unneeded', node]);
  const files = globSync(['wasm/*.wasm', 'share/**', 'page/*'], { cwd: BUNDLE }).filter((file) =>
    statSync(join(BUNDLE, file)).isFile(),
  );
  const config = join(folder, 'sea.json');
  writeFileSync(
    config,
    JSON.stringify({
      main,
      mainFormat: 'module',
      executable: node,
      output,
      disableExperimentalSEAWarning: true,
      assets: Object.fromEntries(files.map((file) => [file, resolve(BUNDLE, file)])),
    }),
  );
  run(process.execPath, ['--build-sea', config]);
  for (const file of [main, config, node]) rmSync(file);
}
