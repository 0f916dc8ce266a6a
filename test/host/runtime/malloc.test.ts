import test from 'ava';
import fc from 'fast-check';
import type { LibcExports } from '../../../host/runtime/seam.ts';
import { compile, load } from './module.ts';

type HeapExports = LibcExports & {
  readonly 'test-malloc': (size: number) => number;
  readonly 'test-calloc': (count: number, size: number) => number;
  readonly 'test-realloc': (address: number, size: number) => number;
  readonly 'test-aligned': (align: number, size: number) => number;
  readonly 'test-usable': (address: number) => number;
  readonly 'test-slab-bytes-max': (size: number) => void;
};

const file = compile('malloc.c');
const MiB = 1024 * 1024;
/** What malloc.c says a block of at most this many bytes is: an object of a slab. */
const smallMax = 16384;

/** What is allocated: `size` bytes at `address`, all of them `fill`. */
interface Block {
  readonly address: number;
  readonly size: number;
  readonly fill: number;
}

/** The heap beside a model of it. */
class Heap {
  readonly #exports: HeapExports;
  readonly #bytes: Buffer;
  readonly #empty: number;
  readonly blocks: Block[] = [];
  #fill = 0;

  constructor(memoryBytes: number) {
    const { module } = load<HeapExports>(file, [], memoryBytes);
    this.#exports = module.exports;
    this.#bytes = module.memory.bytes;
    this.#empty = this.live;
  }

  get live(): number {
    return this.#exports['heap-live']() >>> 0;
  }

  /** Takes note of what an allocation returned: it must be aligned and overlap nothing. */
  add(address: number, size: number, align: number, isZero = false): void {
    const at = address >>> 0;
    const usable = this.#exports['test-usable'](address) >>> 0;
    if (at === 0) throw new Error(`no memory for ${size} bytes`);
    if (at % align !== 0) throw new Error(`${at} is not aligned to ${align}`);
    if (usable < size) throw new Error(`${usable} bytes usable of ${size}`);
    if (at + usable > this.#bytes.length) throw new Error(`${at} + ${usable} is beyond the memory`);
    for (const block of this.blocks)
      if (at < block.address + block.size && block.address < at + usable)
        throw new Error(`${at} + ${usable} overlaps ${block.address} + ${block.size}`);
    if (isZero) this.check({ address: at, size, fill: 0 }, size);
    this.#fill = (this.#fill % 255) + 1;
    // All that is usable: who owns a block may use it all, and the neighbours must not notice.
    this.#bytes.fill(this.#fill, at, at + usable);
    this.blocks.push({ address: at, size: usable, fill: this.#fill });
  }

  /** Takes the n-th block out of the model; its contents must be as they were left. */
  take(n: number): Block {
    const [block] = this.blocks.splice(n % this.blocks.length, 1) as [Block];
    this.check(block, block.size);
    return block;
  }

  check({ address, fill }: Block, length: number): void {
    const bytes = this.#bytes.subarray(address, address + length);
    if (!bytes.equals(Buffer.alloc(length, fill))) throw new Error(`the block at ${address} was overwritten`);
  }

  run([operation, size, n]: readonly [string, number, number]): void {
    const exports = this.#exports;
    const align = 16 << (n % 13);
    if (operation === 'malloc') this.add(exports['test-malloc'](size), size, 16);
    else if (operation === 'alloc') this.add(exports.alloc(size), size, 16);
    else if (operation === 'calloc') this.add(exports['test-calloc'](size, 3), 3 * size, 16, true);
    else if (operation === 'aligned') this.add(exports['test-aligned'](align, size), size, align);
    else if (this.blocks.length === 0) return;
    else if (operation === 'free') exports.free(this.take(n).address);
    else {
      const old = this.take(n);
      const address = exports['test-realloc'](old.address, size);
      if (address !== 0) this.check({ ...old, address: address >>> 0 }, Math.min(size, old.size));
      this.add(address, size, 16);
    }
  }

  /** Everything is intact, and freed nothing is left. */
  end(): void {
    const sum = this.blocks.reduce((total, block) => total + block.size, 0);
    if (this.live - this.#empty !== sum) throw new Error(`${this.live} bytes live, ${sum} allocated`);
    while (this.blocks.length > 0) this.#exports.free(this.take(0).address);
    if (this.live !== this.#empty) throw new Error(`${this.live - this.#empty} bytes lost`);
  }
}

/** Sizes around what malloc.c treats differently: slab classes, pages, the largest block of a pool. */
const size = fc.oneof(
  fc.integer({ min: 0, max: 600 }),
  fc.integer({ min: 0, max: 2 * smallMax }),
  fc.constantFrom(4096, 8192, smallMax - 1, smallMax, smallMax + 1, 65536, 131072, 131073, MiB),
  fc.integer({ min: smallMax, max: 2 * MiB }),
);
const operation = fc.constantFrom('malloc', 'alloc', 'calloc', 'aligned', 'free', 'free', 'realloc');

test('whatever is allocated, resized and freed: blocks are aligned, apart, and keep what is in them', (t) => {
  const steps = fc.array(fc.tuple(operation, size, fc.nat({ max: 1000 })), {
    minLength: 20,
    maxLength: 120,
    size: 'max',
  });
  fc.assert(
    fc.property(steps, (list) => {
      const heap = new Heap(256 * MiB);
      for (const step of list) heap.run(step);
      heap.end();
    }),
    { numRuns: 12 },
  );
  t.pass();
});

/** Allocates until there is no memory. */
function most(exports: HeapExports, bytes: number): number[] {
  const addresses: number[] = [];
  for (let p = exports['test-malloc'](bytes); p !== 0; p = exports['test-malloc'](bytes)) addresses.push(p);
  return addresses;
}

test('when there is no memory, malloc says so; what is freed can be had again', (t) => {
  const { module } = load<HeapExports>(file, [], 64 * MiB);
  const { exports } = module;
  // The sizes of freed memory differ from what is asked for next: caches of one must not starve the other.
  for (const bytes of [128 * 1024, 4096, 48, 100_000, 16384, 600, MiB, 8192, 200, 20_000, 4 * MiB]) {
    const addresses = most(exports, bytes);
    t.true(addresses.length * bytes > 40 * MiB, `${addresses.length} blocks of ${bytes}`);
    for (const address of addresses) exports.free(address);
  }
  t.is(exports['test-malloc'](0xfffffff0), 0);
  t.is(exports['test-malloc'](0x80000000), 0);
  t.is(exports['test-calloc'](0x10000, 0x10000), 0);
  t.is(exports['test-realloc'](0, 0xffffffff), 0);
  t.is(exports.alloc(0xffffffff), 0);
  t.not(exports['test-malloc'](1024), 0);
});

test('a few small objects that stay everywhere do not keep large blocks from memory that is free', (t) => {
  const { module } = load<HeapExports>(file, [], 64 * MiB);
  const { exports } = module;
  exports['test-slab-bytes-max'](40 * MiB);
  const small = most(exports, smallMax);
  t.true(small.length * smallMax > 30 * MiB, `${small.length} small objects`);
  // One in each MiB stays.
  for (const [index, address] of small.entries()) if (index % 60 !== 0) exports.free(address);
  let large = 0;
  while (exports['test-malloc'](128 * 1024) !== 0) large++;
  t.true(large * 128 * 1024 > 16 * MiB, `${large} large blocks`);
});

test('slabs that are free side by side serve as large blocks when there is nothing else', (t) => {
  const { module } = load<HeapExports>(file, [], 64 * MiB);
  const { exports } = module;
  // One object in each MiB stays, so no chunk is given back; nine tenths of the memory are free.
  const small = most(exports, smallMax);
  for (const [index, address] of small.entries()) if (index % 60 !== 0) exports.free(address);
  const large = most(exports, 128 * 1024);
  t.true(large.length * 128 * 1024 > 40 * MiB, `${large.length} large blocks`);
  for (const address of large) {
    t.true(exports['test-usable'](address) >= 128 * 1024);
    module.memory.bytes.fill(0xaa, address >>> 0, (address >>> 0) + 128 * 1024);
  }
  for (const address of large) exports.free(address);
  t.true(most(exports, 4096).length * 4096 > 40 * MiB, 'what was a large block serves small objects again');
});

test('a heap of 3 GiB can be used to its end', (t) => {
  const { module } = load<HeapExports>(file, [], 3072 * MiB);
  const { exports, memory } = module;
  let highest = 0;
  let blocks = 0;
  for (let p = exports['test-malloc'](16 * MiB); p !== 0; p = exports['test-malloc'](16 * MiB)) {
    highest = Math.max(highest, p >>> 0);
    memory.setU32(p + 16 * MiB - 4, 0x5afe57ac);
    blocks++;
  }
  t.true(highest > 3000 * MiB);
  t.true(blocks > 180, `${blocks} blocks of 16 MiB`);
});
