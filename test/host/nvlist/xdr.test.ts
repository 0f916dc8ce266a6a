import test from 'ava';
import { depthMax, NvList, NvlistError, type NvValue } from '../../../host/nvlist/nvlist.ts';
import { decodeXdrNvlist } from '../../../host/nvlist/xdr.ts';
import { mirrorLabel } from '../serve/labels.ts';
import { type NvPairs, packNvlist } from './pack.ts';

/** A list as the object that it was packed from. */
function plain(value: NvValue): unknown {
  if (value instanceof NvList) return Object.fromEntries(value.pairs.map((pair) => [pair.name, plain(pair.value)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

test('an nvlist is decoded as it was packed', (t) => {
  const paths = new Map([
    [1n, '/d/a'],
    [2n, '/d/b'],
  ]);
  const value = mirrorLabel({ name: 'tank', poolGuid: 100n, guid: 1n, paths });
  t.deepEqual(plain(decodeXdrNvlist(packNvlist(value))), value);
});

test('what nobody asks for is left out', (t) => {
  t.deepEqual(plain(decodeXdrNvlist(packNvlist({ number: 1, bytes: Uint8Array.of(1, 2), name: 'tank' }))), {
    name: 'tank',
  });
});

test('lists in lists are decoded as deep as upstream packs them, and no deeper', (t) => {
  const nested = (depth: number) => {
    let list: NvPairs = { name: 'tank' };
    for (let i = 0; i < depth; i++) list = { list };
    return packNvlist(list);
  };
  t.notThrows(() => decodeXdrNvlist(nested(depthMax)));
  for (const depth of [depthMax + 1, 1000]) t.throws(() => decodeXdrNvlist(nested(depth)), { instanceOf: NvlistError });
});
