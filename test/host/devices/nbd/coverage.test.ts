import test from 'ava';
import fc from 'fast-check';
import { Coverage } from '../../../../host/devices/nbd/coverage.ts';

test('agrees with a set of bytes, in any order', (t) => {
  const piece = fc.tuple(fc.integer({ min: -1, max: 40 }), fc.integer({ min: 0, max: 12 }));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const coverage = new Coverage(40);
      const bytes = new Set<number>();
      for (const [from, length] of pieces) {
        const added = Array.from({ length }, (_, index) => from + index);
        const fits = length > 0 && from >= 0 && from + length <= 40 && !added.some((byte) => bytes.has(byte));
        if (coverage.add(from, from + length) !== fits) return false;
        if (fits) for (const byte of added) bytes.add(byte);
        if (coverage.isComplete !== (bytes.size === 40)) return false;
      }
      return true;
    }),
    { numRuns: 2000 },
  );
  t.true(new Coverage(0).isComplete);
});

test('holds so many pieces that lie apart, and no more', (t) => {
  const coverage = new Coverage(1 << 20);
  let pieces = 0;
  while (coverage.add(2 * pieces, 2 * pieces + 1)) pieces += 1;
  t.is(pieces, 4096);
});
