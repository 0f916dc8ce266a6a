import test from 'ava';
import fc from 'fast-check';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { depthMax, exactNumber, NvList, NvlistError, nvToJson } from '../../../host/nvlist/nvlist.ts';

/** A pair of native encoding: its head, the name and the value, each aligned to 8. */
function pair(name: string, type: number, count: number, value: Buffer): Buffer {
  const nameBytes = Buffer.byteLength(name) + 1;
  const valueAt = align8(16 + nameBytes);
  const bytes = Buffer.alloc(align8(valueAt + value.length));
  bytes.writeInt32LE(bytes.length, 0);
  bytes.writeInt16LE(nameBytes, 4);
  bytes.writeInt32LE(count, 8);
  bytes.writeInt32LE(type, 12);
  bytes.write(name, 16);
  value.copy(bytes, valueAt);
  return bytes;
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}

function u64(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt.asUintN(64, value), 8 * i);
  return bytes;
}

const end = Buffer.alloc(4);
const header = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
const embedded = Buffer.alloc(24);
const packed = Buffer.concat([
  header,
  pair('guid', 8, 1, u64(18446744073709551615n)),
  pair('time', 15, 2, u64(1n, -2n)),
  pair('class', 9, 1, Buffer.from('ereport\0')),
  pair('words', 17, 2, Buffer.concat([Buffer.alloc(16), Buffer.from('a\0bc\0')])),
  pair('there', 1, 0, Buffer.alloc(0)),
  pair('no', 21, 1, Buffer.alloc(4)),
  pair('small', 5, 1, Buffer.from([0xff, 0xff, 0xff, 0xff])),
  pair('bytes', 26, 3, Buffer.from([1, 2, 255])),
  pair('inner', 19, 1, embedded),
  pair('x', 6, 1, Buffer.from([7, 0, 0, 0])),
  end,
  pair('list', 20, 2, Buffer.concat([Buffer.alloc(16), embedded, embedded])),
  end,
  pair('y', 4, 1, Buffer.from([9, 1])),
  end,
  end,
]);

test('every type is decoded, and goes to JSON without loss', (t) => {
  const list = decodeNativeNvlist(packed);
  t.is(list.get('guid'), 18446744073709551615n);
  t.is(list.get('missing'), undefined);
  t.true(list.get('inner') instanceof NvList);
  t.deepEqual(nvToJson(list), {
    guid: '18446744073709551615',
    time: [1, -2],
    class: 'ereport',
    words: ['a', 'bc'],
    there: true,
    no: false,
    small: -1,
    bytes: [1, 2, 255],
    inner: { x: 7 },
    list: [{}, { y: 265 }],
  });
  t.is(exactNumber(2n ** 53n - 1n), 9007199254740991);
  t.is(exactNumber(2n ** 53n), '9007199254740992');
  t.is(exactNumber(-(2n ** 60n)), '-1152921504606846976');
});

test('whatever the bytes are, they are decoded or refused', (t) => {
  const decodes = (bytes: Uint8Array): void => {
    try {
      nvToJson(decodeNativeNvlist(bytes));
    } catch (error) {
      if (!(error instanceof NvlistError)) throw error;
    }
  };
  for (let length = 0; length < packed.length; length++) {
    t.throws(() => decodeNativeNvlist(packed.subarray(0, length)), { instanceOf: NvlistError }, `${length} bytes`);
  }
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(packed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), (edits) => {
      const mutated = Buffer.from(packed);
      for (const [at, value] of edits) mutated[at] = value;
      decodes(mutated);
    }),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => decodes(Buffer.concat([header, bytes]))),
    { numRuns: 1000 },
  );
  t.throws(() => decodeNativeNvlist(Buffer.from([1, 1, 0, 0, 0, 0])), { message: /native/ });
});

test('lists in lists are decoded as deep as upstream packs them, and no deeper', (t) => {
  const nested = (depth: number): Buffer => {
    const heads = Array.from({ length: depth }, () => pair('list', 19, 1, embedded));
    return Buffer.concat([header, ...heads, ...Array.from({ length: depth + 1 }, () => end)]);
  };
  t.notThrows(() => decodeNativeNvlist(nested(depthMax)));
  for (const depth of [depthMax + 1, 1000]) {
    t.throws(() => decodeNativeNvlist(nested(depth)), { instanceOf: NvlistError, message: /too deeply/ });
  }
});
