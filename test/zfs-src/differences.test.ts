import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { own } from '../../zfs-src/context.ts';
import { projectRoot } from '../../zfs-src/releases.ts';
import { CORE } from '../../zfs-src/units.ts';

const docs = readFileSync(join(projectRoot, 'docs/differences.md'), 'utf8');

/** Rows of the tables below a heading, as their cells. */
function rows(heading: string): string[][] {
  const section = docs.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.split('|').map((cell) => cell.trim()));
}

/** What a cell has in backticks. */
function names(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
}

test('docs/differences.md has every wrapped function, with its file', (t) => {
  const documented = rows('Wrapped functions').flatMap(([, functions = '', file = '']) =>
    names(functions).map((name) => `${name} ${names(file)[0]}`),
  );
  const defined = own(projectRoot, 'wasm/**/*.c', 'cli/src/*.c').flatMap((file) =>
    [...readFileSync(join(projectRoot, file), 'utf8').matchAll(/^__wrap_(\w+)\(/gm)].map(
      ([, name]) => `${name} ${file}`,
    ),
  );
  t.true(defined.length > 30);
  // One that is defined for two releases is one.
  t.deepEqual(documented.sort(), [...new Set(defined)].sort());
});

test('docs/differences.md has every renamed function, with its file', (t) => {
  let file = '';
  const documented = rows('Renamed functions').flatMap(([, of = '', functions = '']) => {
    file = names(of)[0] ?? file;
    return names(functions).map((name) => `${name} ${file}`);
  });
  const renamed = Object.entries(CORE.renamed).flatMap(([source, list]) => list.map((name) => `${name} ${source}`));
  t.deepEqual(documented.sort(), renamed.sort());
});
