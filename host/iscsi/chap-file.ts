import { parseDocument } from 'yaml';
import { Errno, ErrnoError } from '../errno.ts';
import { readPrivateFile } from '../private-file.ts';
import type { ChapSecrets } from './chap.ts';

/** RFC 7143, 9.2.1: 96 bits at least, without IPsec. */
const SECRET_BYTES_MIN = 12;
const SECRET_BYTES_MAX = 255;

/**
 * Reads the secrets of a listener: YAML files, for nobody but their owner, with a mapping of names and secrets; that of the
 * target has one.
 * @throws ErrnoError naming the file that cannot be used, and why.
 */
export async function loadChap(files: {
  readonly users: string;
  readonly mutual?: string | undefined;
}): Promise<ChapSecrets> {
  const users = await readSecrets(files.users);
  if (files.mutual === undefined) return { users };
  const own = [...(await readSecrets(files.mutual))];
  const [name, secret] = own[0]!;
  if (own.length !== 1) throw wrong(files.mutual, 'the target has one name and secret');
  // RFC 7143, 12.1.3: whose secret serves both ways can be made to answer itself.
  if ([...users.values()].includes(secret)) throw wrong(files.mutual, 'the secret is also that of a user');
  return { users, mutual: { name, secret } };
}

async function readSecrets(path: string): Promise<Map<string, string>> {
  const text = await readPrivateFile('chap', path);
  const document = parseDocument(text, { logLevel: 'error', prettyErrors: false, stringKeys: true });
  const [error] = document.errors;
  // Not the parser's own words: they have a piece of the file, and this is going to a log.
  if (error !== undefined) throw wrong(path, `is not valid YAML at ${error.pos[0]}`);
  const value: unknown = document.toJS({ maxAliasCount: 0 });
  if (typeof value !== 'object' || value === null || Array.isArray(value) || Object.keys(value).length === 0) {
    throw wrong(path, 'must be a mapping of names and secrets');
  }
  const secrets = new Map<string, string>();
  for (const [name, secret] of Object.entries(value)) {
    if (typeof secret !== 'string') throw wrong(path, `the secret of ${name} must be a text; put it in quotes`);
    const bytes = Buffer.byteLength(secret);
    if (bytes < SECRET_BYTES_MIN || bytes > SECRET_BYTES_MAX) {
      throw wrong(
        path,
        `the secret of ${name} must have ${SECRET_BYTES_MIN} to ${SECRET_BYTES_MAX} bytes, not ${bytes}`,
      );
    }
    secrets.set(name, secret);
  }
  return secrets;
}

function wrong(path: string, what: string): ErrnoError {
  return new ErrnoError(Errno.EINVAL, `chap: ${path}: ${what}`);
}
