/** flock(2)'s operation: exclusive, and without waiting. */
export const LOCK_EX_NB = 2 | 4;

/** `node:ffi`; undefined without it (`--no-experimental-ffi`), or where calls of Linux would not be found. */
export function linuxFfi(): ReturnType<typeof process.getBuiltinModule<'node:ffi'>> | undefined {
  if (process.platform !== 'linux') return undefined;
  return quietly(() => process.getBuiltinModule('node:ffi'));
}

/** Loading FFI warns on stderr that it is experimental: nothing a user of ZoW can act on. */
function quietly<T>(action: () => T): T {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => {};
  try {
    return action();
  } finally {
    process.emitWarning = emitWarning;
  }
}
