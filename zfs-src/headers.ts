// Headers that are made at build time from musl's, as its own makefile and a port to a new architecture would.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from './releases.ts';

/**
 * musl's architecture whose `bits/` headers are ours: 32-bit, 64-bit time_t, Linux's generic numbers. Upstream sees Linux's
 * errno, flag and structure layouts this way.
 */
export const MUSL_ARCH = 'riscv32';

/** Expands the TYPEDEF, STRUCT and UNION lines of `alltypes.h.in` as musl's `tools/mkalltypes.sed` does. */
function expandTypes(text: string): string {
  const guard = (need: string, defined: string, line: string): string =>
    `#if defined(__NEED_${need}) && !defined(__DEFINED_${defined})\n${line};\n#define __DEFINED_${defined}\n#endif\n`;
  return text
    .replaceAll(/^TYPEDEF (.*) ([^ ]*);$/gm, (_, type: string, name: string) =>
      guard(name, name, `typedef ${type} ${name}`),
    )
    .replaceAll(/^(STRUCT|UNION) * ([^ ]*) (.*);$/gm, (_, keyword: string, tag: string, body: string) => {
      const kind = keyword.toLowerCase();
      return guard(`${kind}_${tag}`, `${kind}_${tag}`, `${kind} ${tag} ${body}`);
    });
}

/** Replaces exactly one occurrence: a new version of the source that no longer has it must not pass unnoticed. */
function substitute(text: string, from: string, to: string, where: string): string {
  const parts = text.split(from);
  if (parts.length !== 2) {
    throw new BuildError(`${where}: expected "${from}" once, found it ${parts.length - 1} times`);
  }
  return parts.join(to);
}

/** musl's generated headers, by path relative to the include directory. `musl` is musl's tree below `root`. */
export function muslHeaders(root: string, musl: string): Map<string, string> {
  const read = (file: string): string => readFileSync(join(root, musl, file), 'utf8');
  const archTypes = `arch/${MUSL_ARCH}/bits/alltypes.h.in`;
  // clang's size_t on wasm32 is unsigned long, and wasi-libc's musl has a 64-bit clock_t throughout its sources.
  const types = expandTypes(substitute(read(archTypes), 'define _Addr int', 'define _Addr long', archTypes));
  const common = 'include/alltypes.h.in';
  const allTypes = expandTypes(substitute(read(common), 'TYPEDEF long clock_t;', 'TYPEDEF long long clock_t;', common));
  const calls = read(`arch/${MUSL_ARCH}/bits/syscall.h.in`);
  const names = calls
    .split('\n')
    .filter((line) => line.includes('__NR_'))
    .map((line) => `${line.replace('__NR_', 'SYS_')}\n`);
  return new Map([
    ['bits/alltypes.h', types + allTypes],
    ['bits/syscall.h', calls + names.join('')],
    ['version.h', `#define VERSION "${read('VERSION').trim()}"\n`],
    ['wasi/version.h', ''],
  ]);
}
