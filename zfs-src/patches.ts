// Patches of upstream files: the last resort, and each says which releases it is for.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from './releases.ts';

/**
 * Absolute paths of the patches in `folder` that apply to `release`, in the order of their names. The text before a patch's first
 * `---` line is its header: it must have a line `Releases:` (names, or `all`) and one `Why:`.
 */
export function patchesFor(folder: string, release: string): string[] {
  if (!existsSync(folder)) {
    return [];
  }
  const chosen: string[] = [];
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.patch')) {
      continue;
    }
    const file = join(folder, name);
    const header = readFileSync(file, 'utf8').split(/^---/m)[0]!;
    const releases = /^Releases:(.*)$/m
      .exec(header)?.[1]
      ?.trim()
      .split(/[\s,]+/);
    if (releases === undefined || !/^Why:/m.test(header)) {
      throw new BuildError(`${file}: the header of a patch has a "Releases:" line and a "Why:" line`);
    }
    if (releases.includes('all') || releases.includes(release)) {
      chosen.push(file);
    }
  }
  return chosen;
}
