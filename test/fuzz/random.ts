/** xorshift32: deterministic, and good enough to choose. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 2654435761) ^ 0x9e3779b9) | 1;
  }

  /** 0 to n - 1. */
  below(n: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % n;
  }

  /** True once in n. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

const interesting = [0, 1, 2, 3, 7, 0x7f, 0x80, 0xff];

/** Changes a stream where it stands, from `first` on; returns it, or a piece of it. */
export function mutate(random: Random, bytes: Buffer, first: number): Buffer {
  let out = bytes;
  for (let n = 1 + random.below(4); n > 0; n--) {
    const at = Math.min(first, out.length - 1) + random.below(Math.max(1, out.length - first));
    switch (random.below(6)) {
      case 0:
        out[at] = (out[at] ?? 0) ^ (1 << random.below(8));
        break;
      case 1:
        out[at] = random.pick(interesting);
        break;
      case 2:
        out = Buffer.from(out.subarray(0, Math.max(1, at)));
        break;
      case 3:
        out = Buffer.concat([out.subarray(0, at), Buffer.alloc(random.below(40), random.below(256)), out.subarray(at)]);
        break;
      case 4:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + random.below(40))]);
        break;
      default: {
        const end = at + random.below(64);
        out = Buffer.concat([out.subarray(0, end), out.subarray(at)]);
      }
    }
    if (out.length === 0) return Buffer.from([0]);
  }
  return out;
}
