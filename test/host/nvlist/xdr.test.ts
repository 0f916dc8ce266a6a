import test from 'ava';
import { NvList, type NvValue } from '../../../host/nvlist/nvlist.ts';
import { decodeXdrNvlist } from '../../../host/nvlist/xdr.ts';
import { mirrorLabel } from '../serve/labels.ts';
import { packNvlist } from './pack.ts';

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
