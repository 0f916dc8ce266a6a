import { readFileSync } from 'node:fs';
import { componentEmbed } from '@bytecodealliance/jco';
import test from 'ava';
import { PROGRAMS } from '../../cli/programs.ts';
import { wasmFile } from '../../host/assets.ts';
import { Memory } from '../../host/runtime/memory.ts';
import { Wasi } from '../../host/runtime/wasi.ts';
import { type Crossing, crossings } from './sections.ts';

const wit = new URL('../../wasm/zow.wit', import.meta.url);

/** `device-open: (i32 i32 i32 i32) -> (i32)` */
const lines = (functions: readonly Crossing[]): string[] =>
  functions.map(({ name, type }) => `${name}: ${type}`).sort();

/** What wasm/zow.wit says, by way of the empty module that wasm-tools makes of a world: its types are the canonical ABI's. */
async function world(name: string): Promise<{ imports: string[]; exports: string[] }> {
  const bytes = await componentEmbed({ dummy: true, witSource: readFileSync(wit, 'utf8'), world: name });
  const dummy = crossings(bytes);
  const own = dummy.exports.flatMap((crossing) => {
    const match = /\|zow:seam\/[^|]+\|(?<name>[a-z0-9-]+)$/.exec(crossing.name);
    return match === null ? [] : [{ ...crossing, name: match.groups!.name! }];
  });
  return { imports: lines(dummy.imports), exports: lines(own) };
}

function built(name: string): { seam: string[]; wasi: string[]; others: string[]; exports: string[] } {
  const { imports, exports } = crossings(readFileSync(wasmFile(name)));
  const from = (module: string): string[] => lines(imports.filter((crossing) => crossing.module === module));
  return {
    seam: from('zow'),
    wasi: from('wasi_snapshot_preview1').map((line) => line.split(':')[0]!),
    others: lines(imports.filter(({ module }) => module !== 'zow' && module !== 'wasi_snapshot_preview1')),
    exports: lines(exports),
  };
}

test('the core has the imports and exports of its world, no more and no less', async (t) => {
  const { imports, exports } = await world('core');
  const core = built('zow');
  t.deepEqual(core.seam, imports);
  t.deepEqual(core.exports, exports);
  t.deepEqual(core.others, []);
});

test('each program has what its world has', async (t) => {
  const { imports, exports } = await world('program');
  const used = new Set<string>();
  for (const name of Object.keys(PROGRAMS)) {
    const program = built(name);
    t.deepEqual(program.exports, exports, name);
    t.deepEqual(program.others, [], name);
    t.deepEqual(
      program.seam.filter((line) => !imports.includes(line)),
      [],
      `${name} imports what its world does not have`,
    );
    for (const line of program.seam) used.add(line);
  }
  t.deepEqual(
    imports.filter((line) => !used.has(line)),
    [],
    'in the world, but no program imports it',
  );
});

test('the WASI shim has every call that a module imports', (t) => {
  const exit = (): never => {
    throw new Error('exit');
  };
  const shim = new Wasi({ memory: new Memory(65536), args: [], env: {}, exit }).imports;
  for (const name of ['zow', ...Object.keys(PROGRAMS)])
    t.deepEqual(
      built(name).wasi.filter((call) => !Object.hasOwn(shim, call)),
      [],
      name,
    );
});

test('names are unique over all interfaces: the modules have them in one', async (t) => {
  for (const name of ['core', 'program']) {
    const { imports, exports } = await world(name);
    for (const list of [imports, exports])
      t.is(new Set(list.map((line) => line.split(':')[0])).size, list.length, name);
  }
});
