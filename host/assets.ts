import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import releases from '../zfs-src/releases.json' with { type: 'json' };

/**
 * Defined by cli/bundle.ts, whose output lies one folder deep in dist/, as this file does in the checkout: the release
 * whose wasm files it put there.
 */
declare const ZOW_BUNDLED: string | undefined;
const bundled = typeof ZOW_BUNDLED !== 'undefined';

/** dist/ of the package, or the checkout. */
const base = new URL('../', import.meta.url);

/** The OpenZFS release the wasm files are of: `2.4.3`. A checkout may have several, and ZOW_RELEASE chooses. */
export const release: string = bundled ? ZOW_BUNDLED! : process.env.ZOW_RELEASE || releases.default;

/** Path of a WebAssembly module: `zow` is the core, `zpool`, `zfs`, … the programs. ZOW_WASM names another folder of them. */
export function wasmFile(name: string): string {
  const folder = process.env.ZOW_WASM;
  if (folder !== undefined && folder !== '') return `${folder}/${name}.wasm`;
  return fileURLToPath(new URL(bundled ? `wasm/${name}.wasm` : `build/${release}/wasm/${name}.wasm`, base));
}

/** Upstream's files for compatibility= (compatibility.d) and its scripts for `zpool status -c` (zpool.d). */
export function shareFolder(): string {
  return fileURLToPath(new URL(bundled ? 'share' : `zfs-src/upstream/${release}/cmd/zpool`, base));
}

/** A file of the live page, as browsers get it. */
export function pageFile(name: string): string {
  return fileURLToPath(new URL(`${bundled ? 'page' : 'host/page/client'}/${name}`, base));
}

/** Node's arguments that run one of upstream's programs. */
export function programArgs(program: string): readonly string[] {
  if (bundled) return [fileURLToPath(new URL(`bin/${program}.mjs`, base))];
  return [fileURLToPath(new URL('cli/program.ts', base)), program];
}

/** The module that a process of an engine runs (host/engine/main.ts). */
export function engineEntry(): string {
  return fileURLToPath(new URL(bundled ? 'lib/engine.mjs' : 'host/engine/entry.ts', base));
}

/** How a user types a program: a checkout's launchers by path, else by its name. */
export function launcher(program: string): string {
  const folder = fileURLToPath(new URL(bundled ? '../cli/bin/' : 'cli/bin/', base));
  if (!existsSync(`${folder}${program}`)) return program;
  const here = `${process.cwd()}/`;
  return folder.startsWith(here) ? `${folder.slice(here.length)}${program}` : `${folder}${program}`;
}
