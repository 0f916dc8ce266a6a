// Finds the compilers a target needs.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Toolchain } from './context.ts';
import { BuildError } from './releases.ts';

/** clang's first version that compiles everything; the one that is tested is `PREFERRED_CLANG`. */
const OLDEST_CLANG = 17;
const PREFERRED_CLANG = 19;

/** First line of `command --version`, or undefined when there is no such command. */
function versionOf(command: string): string | undefined {
  const result = spawnSync(command, ['--version'], { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.split('\n')[0] : undefined;
}

function findClangTool(name: string): { command: string; version: string } {
  for (const command of [`${name}-${PREFERRED_CLANG}`, name]) {
    const version = versionOf(command);
    const major = Number(/(\d+)\.\d+\.\d+/.exec(version ?? '')?.[1] ?? 0);
    // llvm-ar's first line has no number: it is taken as it is.
    if (version !== undefined && (major === 0 || major >= OLDEST_CLANG)) {
      return { command, version };
    }
  }
  throw new BuildError(
    `${name}-${PREFERRED_CLANG} is missing: install clang-19, lld-19 and llvm-19 (or run build.sh as root on Debian)`,
  );
}

/** clang's runtime library for wasm32, which Debian packages apart from clang. */
function findBuiltins(clang: string): string {
  const result = spawnSync(clang, ['--target=wasm32-wasi', '-print-libgcc-file-name'], { encoding: 'utf8' });
  const file = result.stdout.trim();
  if (!existsSync(file)) {
    throw new BuildError(`${file} is missing: install libclang-rt-19-dev-wasm32 (or run build.sh as root on Debian)`);
  }
  return file;
}

function findSystemTool(command: string): { command: string; version: string } {
  const version = versionOf(command);
  if (version === undefined) {
    throw new BuildError(`${command} is missing: install build-essential`);
  }
  return { command, version };
}

/** The tools for `target`; those of the other target are left empty. Throws a BuildError that names what is missing. */
export function findTools(target: 'wasm' | 'native'): Toolchain {
  const none = { command: '', version: '' };
  const isWasm = target === 'wasm';
  const clang = isWasm ? findClangTool('clang') : none;
  const wasmLd = isWasm ? findClangTool('wasm-ld') : none;
  const wasmAr = isWasm ? findClangTool('llvm-ar') : none;
  const gcc = isWasm ? none : findSystemTool('gcc');
  const ar = isWasm ? none : findSystemTool('ar');
  const versions = [clang, wasmLd, wasmAr, gcc, ar].map((tool) => tool.version).filter((version) => version !== '');
  return {
    clang: clang.command,
    wasmLd: wasmLd.command,
    wasmAr: wasmAr.command,
    wasmBuiltins: isWasm ? findBuiltins(clang.command) : '',
    gcc: gcc.command,
    ar: ar.command,
    versions: versions.join('\n'),
  };
}
