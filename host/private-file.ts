import { open } from 'node:fs/promises';
import { Errno, ErrnoError, errnoOf } from './errno.ts';

/** Larger is no file of secrets. */
const FILE_BYTES_MAX = 1 << 20;

/**
 * Reads a file of secrets, which has to be its owner's alone. `what` is where it is named, for errors.
 * @throws ErrnoError naming the file that cannot be used, and why.
 */
export async function readPrivateFile(what: string, path: string): Promise<string> {
  const wrong = (reason: string): ErrnoError => new ErrnoError(Errno.EINVAL, `${what}: ${path}: ${reason}`);
  try {
    await using file = await open(path, 'r');
    const stat = await file.stat();
    if (!stat.isFile()) throw wrong('is no file');
    if ((stat.mode & 0o077) !== 0) {
      throw wrong(`must have mode 0600, not 0${(stat.mode & 0o777).toString(8)}: others can read the secrets`);
    }
    if (stat.size > FILE_BYTES_MAX) throw wrong('is too large');
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof ErrnoError) throw error;
    throw new ErrnoError(errnoOf(error), `${what}: reading ${path}`, { cause: error });
  }
}
