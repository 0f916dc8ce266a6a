// What every plan is made from, and the parts that plans share.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Group } from './plan.ts';
import type { Upstream } from './upstream.ts';

export interface Toolchain {
  /** Compilers and binutils, as commands. */
  readonly clang: string;
  readonly wasmLd: string;
  readonly wasmAr: string;
  /** clang's runtime library for wasm32: 128-bit arithmetic, long double. */
  readonly wasmBuiltins: string;
  readonly gcc: string;
  readonly ar: string;
  /** What changes when any of them changes. */
  readonly versions: string;
}

export interface Context {
  /** The project's directory; everything else is relative to it. */
  readonly root: string;
  readonly release: string;
  /** Where the release is unpacked. */
  readonly tree: string;
  /** Where musl is unpacked. */
  readonly musl: string;
  readonly debug: boolean;
  /** Whether it only has to compile and link, as fast as that goes: without optimising, in a folder of its own. */
  readonly check: boolean;
  readonly tools: Toolchain;
}

/** Our files that match `patterns`, sorted: the order of a directory is the file system's. */
export function own(root: string, ...patterns: string[]): string[] {
  return patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
}

/** `--wrap` for each function `__wrap_NAME` that `sources` define (cstyle puts the name at the start of its line). */
export function wraps(root: string, sources: readonly string[]): string[] {
  const names = sources.flatMap((source) =>
    [...readFileSync(join(root, source), 'utf8').matchAll(/^__wrap_(\w+)\(/gm)].map((match) => `--wrap=${match[1]}`),
  );
  return [...new Set(names)].sort();
}

/** What makes all objects stale besides flags: the tools, and which headers of ours exist on the include path. */
export function fingerprint(context: Context, ...headers: string[]): string {
  return [context.tools.versions, ...own(context.root, ...headers)].join('\n');
}

/** A group for each upstream library or program; `adjust` turns upstream's flags into those of the target. */
export function upstreamGroups(
  upstream: Upstream,
  names: readonly string[],
  tree: string,
  compiler: string,
  adjust: (flags: readonly string[]) => string[],
): Group[] {
  return names.map((name) => {
    const target = upstream.target(name);
    return {
      name,
      compiler,
      sources: target.sources.map((source) => `${tree}/${source}`),
      flags: adjust(target.flags),
    };
  });
}
