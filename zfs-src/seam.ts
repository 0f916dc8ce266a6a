// The host's types of the seam: build/types/<world>/<world>.d.ts from wasm/zow.wit, by jco. build.ts runs it; so does
// `node zfs-src/seam.ts`.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { projectRoot } from './releases.ts';

const WORLDS = ['core', 'program'];

/** Whether the types are as new as what they come from: the file and this generator. */
function isCurrent(stamp: string, sources: readonly string[]): boolean {
  return existsSync(stamp) && sources.every((source) => statSync(source).mtimeMs <= statSync(stamp).mtimeMs);
}

/**
 * Writes build/types, unless it is current. Not by `jco types`: as of 1.35.0 the command gives its parser no file system
 * (preview2-shim 0.26 has no preopened directories by default), so the text goes through the same library function.
 */
export async function writeSeamTypes(root: string): Promise<void> {
  const source = join(root, 'wasm/zow.wit');
  const folder = join(root, 'build/types');
  const stamp = join(folder, '.stamp');
  if (isCurrent(stamp, [source, import.meta.filename])) {
    return;
  }
  const { generateTypes } = await import('@bytecodealliance/jco/component');
  const text = readFileSync(source, 'utf8');
  const temporary = `${folder}.new`;
  rmSync(temporary, { recursive: true, force: true });
  for (const world of WORLDS) {
    // Instantiation mode makes jco describe imports and exports as one object each.
    const options = { wit: { tag: 'source', val: text }, world, instantiation: { tag: 'sync' } } as const;
    for (const [name, content] of await generateTypes(world, options)) {
      const file = join(temporary, world, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, content);
    }
  }
  writeFileSync(join(temporary, '.stamp'), '');
  rmSync(folder, { recursive: true, force: true });
  renameSync(temporary, folder);
}

if (import.meta.main) {
  await writeSeamTypes(projectRoot);
}
