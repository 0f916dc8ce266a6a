import crypto from 'node:crypto';
import zlib from 'node:zlib';
import type { Memory } from '../runtime/memory.ts';
import type { Seam } from '../runtime/seam.ts';

/** The imports of compute.c: what the host's native code computes faster than the module. */
export function computeImports(memory: Memory): Seam['compression'] & Seam['cryptography'] & Seam['key-derivation'] {
  return {
    deflate: (source, sourceLength, dest, destLength, level) =>
      into(memory, dest, destLength, () => zlib.deflateSync(memory.view(source, sourceLength), { level })),
    inflate: (source, sourceLength, dest, destLength) =>
      into(memory, dest, destLength, () =>
        // A damaged block can inflate to anything: never to more than there is room for.
        zlib.inflateSync(memory.view(source, sourceLength), { maxOutputLength: destLength }),
      ),
    // wasm/program/evp.c: the wrapping key of a passphrase. 0 when good.
    'pbkdf2-sha1': (passphrase, passphraseLength, salt, saltLength, iterations, key, keyLength) => {
      const secret = Buffer.from(memory.view(passphrase, passphraseLength));
      const derive = (): Buffer =>
        crypto.pbkdf2Sync(secret, Buffer.from(memory.view(salt, saltLength)), iterations, keyLength, 'sha1');
      const written = into(memory, key, keyLength, derive);
      secret.fill(0);
      return written < 0 ? -1 : 0;
    },
    sha256: (source, length, digest) => {
      memory.view(digest, 32).set(crypto.hash('sha256', memory.view(source, length), 'buffer'));
      return 0;
    },
    'aes-gcm': (encrypt, source, dest, length, iv, mac, key, keyLength) => {
      const algorithm = `aes-${keyLength * 8}-gcm` as crypto.CipherGCMTypes;
      const nonce = memory.view(iv, gcmIvBytes);
      const tag = memory.view(mac, gcmMacBytes);
      const secret = memory.copy(key, keyLength);
      try {
        if (encrypt !== 0) {
          const cipher = crypto.createCipheriv(algorithm, secret, nonce);
          memory.view(dest, length).set(cipher.update(memory.view(source, length)));
          cipher.final();
          tag.set(cipher.getAuthTag());
        } else {
          const decipher = crypto.createDecipheriv(algorithm, secret, nonce, { authTagLength: gcmMacBytes });
          decipher.setAuthTag(tag);
          const plain = decipher.update(memory.view(source, length));
          decipher.final();
          memory.view(dest, length).set(plain);
        }
        return 0;
      } catch {
        return -1;
      } finally {
        secret.fill(0);
      }
    },
  };
}

/** ZIO_DATA_IV_LEN and ZIO_DATA_MAC_LEN of upstream's zio.h. */
const gcmIvBytes = 12;
const gcmMacBytes = 16;

/** Bytes written to `dest`, or -1 when the result does not fit or cannot be computed. */
function into(memory: Memory, dest: number, destLength: number, compute: () => Buffer): number {
  let result: Buffer;
  try {
    result = compute();
  } catch {
    return -1;
  }
  if (result.length > destLength) return -1;
  memory.view(dest, result.length).set(result);
  return result.length;
}
