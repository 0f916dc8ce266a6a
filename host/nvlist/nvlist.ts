/** An nvlist that says of something what it should not: it was not made by OpenZFS. */
export class NvlistError extends Error {
  constructor(message: string) {
    super(`not an nvlist: ${message}`);
    this.name = 'NvlistError';
  }
}

/** data_type_t, include/sys/nvpair.h. */
export const DataType = {
  BOOLEAN: 1,
  BYTE: 2,
  INT16: 3,
  UINT16: 4,
  INT32: 5,
  UINT32: 6,
  INT64: 7,
  UINT64: 8,
  STRING: 9,
  BYTE_ARRAY: 10,
  INT16_ARRAY: 11,
  UINT16_ARRAY: 12,
  INT32_ARRAY: 13,
  UINT32_ARRAY: 14,
  INT64_ARRAY: 15,
  UINT64_ARRAY: 16,
  STRING_ARRAY: 17,
  HRTIME: 18,
  NVLIST: 19,
  NVLIST_ARRAY: 20,
  BOOLEAN_VALUE: 21,
  INT8: 22,
  UINT8: 23,
  BOOLEAN_ARRAY: 24,
  INT8_ARRAY: 25,
  UINT8_ARRAY: 26,
  DOUBLE: 27,
} as const;

/** Integers of 64 bits are bigints, smaller ones and doubles are numbers. */
export type NvScalar = boolean | number | bigint | string;
export type NvValue = NvScalar | NvList | readonly NvScalar[] | readonly NvList[];

export interface NvPair {
  readonly name: string;
  /** As in DataType. */
  readonly type: number;
  readonly value: NvValue;
}

/** Pairs in the order in which they were added; names need not be unique. */
export class NvList {
  readonly pairs: readonly NvPair[];

  constructor(pairs: readonly NvPair[]) {
    this.pairs = pairs;
  }

  get(name: string): NvValue | undefined {
    return this.pairs.find((pair) => pair.name === name)?.value;
  }
}

/** How deep lists are in lists at most: upstream stops there too. */
export const depthMax = 20;

export type Json = boolean | number | string | null | readonly Json[] | { readonly [name: string]: Json };

/** An integer as JSON has it: a number where JavaScript's are exact, else a string of its digits. */
export function exactNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** The same in JSON. */
export function nvToJson(value: NvValue): Json {
  if (typeof value === 'bigint') return exactNumber(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (value instanceof NvList) return Object.fromEntries(value.pairs.map((pair) => [pair.name, nvToJson(pair.value)]));
  if (Array.isArray(value)) return value.map((element: NvScalar | NvList) => nvToJson(element));
  return value as string | boolean;
}
