import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Defined by the bundler (zfs-src has no part in it: cli/bundle.mjs), whose output lies one folder deep in dist/. */
declare const ZOW_BUNDLED: boolean | undefined;
const bundled = typeof ZOW_BUNDLED !== 'undefined';

/** The folder that holds everything: dist/ of the package, or the checkout. */
const base = new URL('../', import.meta.url);

/** Node's arguments that run one of upstream's programs. */
export function programArgs(program: string): readonly string[] {
  const file = bundled ? `bin/${program}.mjs` : 'cli/run.ts';
  const path = fileURLToPath(new URL(file, base));
  return bundled ? [path] : [path, program];
}

/** How a user types a program: the checkout's launchers as `cli/bin/zpool`, else by its name. */
export function launcher(program: string): string {
  const checkout = fileURLToPath(new URL(bundled ? '../cli/bin/' : 'cli/bin/', base));
  if (!existsSync(`${checkout}${program}`)) return program;
  const here = `${process.cwd()}/`;
  return checkout.startsWith(here) ? `${checkout.slice(here.length)}${program}` : `${checkout}${program}`;
}
