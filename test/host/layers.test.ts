import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const host = fileURLToPath(new URL('../../host/', import.meta.url));

/** The room of a file: its folder, or itself where it stands in host/. */
function roomOf(file: string): string {
  return relative(host, file).split('/')[0]!;
}

/** Which rooms each room imports from, types included. */
function imports(): Map<string, Set<string>> {
  const rooms = new Map<string, Set<string>>();
  for (const name of globSync('**/*.ts', { cwd: host })) {
    const file = join(host, name);
    const uses = rooms.get(roomOf(file)) ?? new Set();
    rooms.set(roomOf(file), uses);
    for (const [, , specifier] of readFileSync(file, 'utf8').matchAll(/\b(from|import)\b ?\(?'(\.[^']*)'/g)) {
      const target = join(dirname(file), specifier!);
      if (target.startsWith(host) && roomOf(target) !== roomOf(file)) uses.add(roomOf(target));
    }
  }
  return rooms;
}

test('no room of host/ is below what it is above', (t) => {
  const rooms = imports();
  t.true(rooms.get('nbd')!.has('volumes') && rooms.get('zow.ts')!.has('serve'), 'imports are found');
  // Takes the rooms away that use nothing that is left, floor by floor.
  for (let more = true; more; ) {
    more = false;
    for (const [room, uses] of rooms) {
      if ([...uses].some((used) => rooms.has(used))) continue;
      rooms.delete(room);
      more = true;
    }
  }
  t.deepEqual([...rooms.keys()], [], 'rooms in a circle, and what stands on it');
});
