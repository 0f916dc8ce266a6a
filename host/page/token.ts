import { createHash, timingSafeEqual } from 'node:crypto';
import { Errno, ErrnoError } from '../errno.ts';
import { readPrivateFile } from '../private-file.ts';

/** Shorter ones can be guessed by trying: nobody is slowed down who tries. */
const BYTES_MIN = 16;
const BYTES_MAX = 255;

/** The secret of who may act on the page. */
export class Token {
  readonly #hash: Buffer;

  private constructor(secret: string) {
    this.#hash = hash(secret);
  }

  /**
   * Of a file that is its owner's alone, and has it on its only line.
   * @throws ErrnoError naming the file that cannot be used, and why.
   */
  static async load(path: string): Promise<Token> {
    const secret = (await readPrivateFile('token', path)).trim();
    const wrong = (reason: string): ErrnoError => new ErrnoError(Errno.EINVAL, `token: ${path}: ${reason}`);
    if (!/^[\x21-\x7e]*$/.test(secret)) throw wrong('must be one word of ASCII');
    if (secret.length < BYTES_MIN || secret.length > BYTES_MAX)
      throw wrong(`must have ${BYTES_MIN} to ${BYTES_MAX} characters, not ${secret.length}`);
    return new Token(secret);
  }

  /** Whether an Authorization header is `Bearer` and the secret. How long it takes tells nothing of it. */
  isIn(authorization: string | undefined): boolean {
    const given = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    return given !== undefined && timingSafeEqual(hash(given), this.#hash);
  }
}

function hash(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
