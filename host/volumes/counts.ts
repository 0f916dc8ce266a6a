/** Two records, of numbers and of records of them, with the same names, as one: each number the sum. */
export function addCounts<T extends object>(a: T, b: T): T {
  const other = b as Readonly<Record<string, number | object>>;
  const sums = Object.entries(a as Readonly<Record<string, number | object>>).map(([name, value]) => {
    const more = other[name]!;
    return [name, typeof value === 'number' ? value + (more as number) : addCounts(value, more as object)];
  });
  return Object.fromEntries(sums) as T;
}
