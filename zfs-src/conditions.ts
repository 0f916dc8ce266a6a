// Automake's conditionals: what upstream's configure would decide, without running it.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** For what the makefiles are evaluated: an architecture whose assembler is used, or "none" for wasm. */
export type Cpu = 'x64' | 'none';

/** What is decided here: the system, its CPU, and what of it the build does without. */
export function knownConditions(cpu: Cpu): Record<string, boolean> {
  return {
    ASAN_ENABLED: false,
    UBSAN_ENABLED: false,
    BUILD_FREEBSD: false,
    BUILD_LINUX: true,
    CONFIG_KERNEL: false,
    CONFIG_USER: true,
    TARGET_CPU_AARCH64: false,
    TARGET_CPU_ARM: false,
    TARGET_CPU_I386: false,
    TARGET_CPU_POWERPC: false,
    TARGET_CPU_X86_64: cpu === 'x64',
    USING_PYTHON: false,
    WANT_DEVNAME2DEVID: false,
    WANT_MMAP_LIBAIO: false,
  };
}

/** How a condition of a release was decided. */
export interface Decision {
  readonly condition: string;
  readonly value: boolean;
  readonly why: string;
}

/**
 * The rule for a condition that is not among the known ones. configure has it from a variable, `AM_CONDITIONAL([X], [test "x$v" = "xyes"])`: where
 * `v` is an option of configure's that is on unless it is turned off, `[v=yes]`, the condition is true. Any other asks for something of
 * the machine, or for an option that is off, and is false.
 */
export function decideCondition(root: string, tree: string, condition: string): Decision {
  const cwd = join(root, tree);
  for (const file of ['configure.ac', ...globSync('config/*.m4', { cwd }).sort()]) {
    const text = readFileSync(join(cwd, file), 'utf8');
    const test = new RegExp(`AM_CONDITIONAL\\(\\[${condition}\\],\\s*\\[?\\s*test "?x?\\$(\\w+)"? = "?x?yes`).exec(
      text,
    );
    if (test === null) continue;
    const [, variable] = test;
    const isDefault = new RegExp(`\\[\\s*${variable}=yes\\s*\\]`).test(text);
    const why = isDefault
      ? `${file}: $${variable} is yes unless turned off`
      : `${file}: $${variable} is not yes by itself`;
    return { condition, value: isDefault, why };
  }
  return { condition, value: false, why: 'no file of config/ compares a variable with yes for it' };
}
