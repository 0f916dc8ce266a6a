import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getAssetKeys, getRawAsset, isSea } from 'node:sea';
import { fileURLToPath } from 'node:url';
import releases from '../zfs-src/releases.json' with { type: 'json' };

/**
 * Defined by cli/bundle.ts, whose output lies one folder deep in dist/, as this file does in the checkout: the release
 * whose wasm files it put there.
 */
declare const ZOW_BUNDLED: string | undefined;
const bundled = typeof ZOW_BUNDLED !== 'undefined';

/** Whether this is the one executable file (make dist): Node, the bundle and all its files in one. */
export const isSingle = isSea();

/** Its WebAssembly modules are below this, in it. */
const WASM_ASSETS = 'wasm/';

/** dist/ of the package, or the checkout. */
const base = new URL('../', import.meta.url);

/** The OpenZFS release the wasm files are of: `2.4.3`. A checkout may have several, and ZOW_RELEASE chooses. */
export const release: string = bundled ? ZOW_BUNDLED! : process.env.ZOW_RELEASE || releases.default;

/** Path of a WebAssembly module: `zow` is the core, `zpool`, `zfs`, … the programs. ZOW_WASM names another folder of them. */
export function wasmFile(name: string): string {
  const folder = process.env.ZOW_WASM;
  if (folder !== undefined && folder !== '') return `${folder}/${name}.wasm`;
  if (isSingle) return `${WASM_ASSETS}${name}.wasm`;
  return fileURLToPath(new URL(bundled ? `wasm/${name}.wasm` : `build/${release}/wasm/${name}.wasm`, base));
}

/** Reads what wasmFile names. Throws Node's error where there is none. */
export function readWasm(file: string): Uint8Array<ArrayBuffer> {
  if (isSingle && file.startsWith(WASM_ASSETS)) return new Uint8Array(getRawAsset(file) as ArrayBuffer);
  return readFileSync(file);
}

let extracted: string | undefined;

/** Upstream's files for compatibility= (compatibility.d) and its scripts for `zpool status -c` (zpool.d). */
export function shareFolder(): string {
  if (isSingle) {
    extracted ??= extractShare();
    return extracted;
  }
  return fileURLToPath(new URL(bundled ? 'share' : `zfs-src/upstream/${release}/cmd/zpool`, base));
}

/** Reads a file of the live page, as browsers get it. */
export function readPageFile(name: string): Buffer {
  if (isSingle) return Buffer.from(getRawAsset(`page/${name}`) as ArrayBuffer);
  return readFileSync(fileURLToPath(new URL(`${bundled ? 'page' : 'host/page/client'}/${name}`, base)));
}

/** As files, for as long as this process lives. */
function extractShare(): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-share-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const key of getAssetKeys()) {
    if (!key.startsWith('share/')) continue;
    const file = join(folder, key.slice('share/'.length));
    mkdirSync(dirname(file), { recursive: true });
    // Scripts have to be executable; the others do not mind.
    writeFileSync(file, new Uint8Array(getRawAsset(key) as ArrayBuffer), { mode: 0o755 });
  }
  return folder;
}

/** First arguments of the one executable file that are for nobody to type (cli/single.ts). */
export const SingleWord = { program: 'zow:program', engine: 'zow:engine' } as const;

/** Node's arguments that run one of upstream's programs. */
export function programArgs(program: string): readonly string[] {
  if (isSingle) return [SingleWord.program, program];
  if (bundled) return [fileURLToPath(new URL(`bin/${program}.mjs`, base))];
  return [fileURLToPath(new URL('cli/program.ts', base)), program];
}

/** The module that a process of an engine runs (host/engine/main.ts). */
export function engineEntry(): string {
  if (isSingle) return SingleWord.engine;
  return fileURLToPath(new URL(bundled ? 'lib/engine.mjs' : 'host/engine/entry.ts', base));
}

/** How a user types a program: a checkout's launchers by path, else by its name; of the one executable file as a command of `zow`. */
export function launcher(program: string): readonly string[] {
  if (isSingle) return isOnPath(program) ? [program] : [isOnPath('zow') ? 'zow' : process.execPath, program];
  const folder = fileURLToPath(new URL(bundled ? '../cli/bin/' : 'cli/bin/', base));
  if (!existsSync(`${folder}${program}`)) return [program];
  const here = `${process.cwd()}/`;
  return [folder.startsWith(here) ? `${folder.slice(here.length)}${program}` : `${folder}${program}`];
}

/** Whether the shell finds this executable under a name. */
function isOnPath(name: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => {
    try {
      return realpathSync(join(folder, name)) === process.execPath;
    } catch {
      return false;
    }
  });
}
