import { writeSync } from 'node:fs';

/** Writes text to stdout (1) or stderr (2) before it returns. A reader that has gone away is no error, but false. */
export function print(fd: 1 | 2, text: string | Uint8Array): boolean {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // EIO: a terminal that was closed.
      if (code === 'EPIPE' || code === 'EIO') return false;
      // A terminal or pipe that somebody made non-blocking and that is full.
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  return true;
}
