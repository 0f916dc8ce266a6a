import { createHash, getHashes, randomBytes, timingSafeEqual } from 'node:crypto';
import { LoginStatus } from './constants.ts';
import { LoginError } from './errors.ts';
import { type Pairs, parseBinary, parseNumber } from './text.ts';

/** Who may log in, and how the target shows itself. */
export interface ChapSecrets {
  /** Secrets by user name (CHAP_N). */
  readonly users: ReadonlyMap<string, string>;
  /** What the target answers initiators with that ask it to authenticate itself. */
  readonly mutual?: { readonly name: string; readonly secret: string } | undefined;
}

/** RFC 7143's registry of CHAP algorithms (12.1.3, and IANA's "PPP Authentication Algorithms"), strongest first. */
const algorithms: readonly { readonly id: number; readonly hash: string; readonly bytes: number }[] = [
  { id: 8, hash: 'sha3-256', bytes: 32 },
  { id: 7, hash: 'sha256', bytes: 32 },
  { id: 6, hash: 'sha1', bytes: 20 },
  { id: 5, hash: 'md5', bytes: 16 },
].filter(({ hash }) => getHashes().includes(hash));

/** Challenges of initiators, bytes: RFC 7143 bounds a binary value at 1024. */
const CHALLENGE_BYTES_MAX = 1024;
const NAME_CHARACTERS_MAX = 255;

const denied = (message: string) => new LoginError(LoginStatus.AUTHENTICATION_FAILURE, message);

/** MD5 of id, secret, challenge, as RFC 1994, 4.1 has it, or another hash of the same. */
export function chapResponse(hash: string, id: number, secret: string, challenge: Buffer): Buffer {
  return createHash(hash).update(Uint8Array.of(id)).update(secret, 'utf8').update(challenge).digest();
}

/**
 * The target's side of one CHAP exchange (RFC 7143, 12.1.3):
 *
 *   begun ── CHAP_A ──► challenged ── CHAP_N, CHAP_R [, CHAP_I, CHAP_C] ──► done
 */
export class Chap {
  readonly #secrets: ChapSecrets;
  #state: 'begun' | 'challenged' | 'done' = 'begun';
  #algorithm: (typeof algorithms)[number] | undefined;
  readonly #id: number;
  readonly #challenge: Buffer;
  #user = '';

  constructor(secrets: ChapSecrets, random: (bytes: number) => Buffer = randomBytes) {
    this.#secrets = secrets;
    this.#id = random(1)[0]!;
    this.#challenge = random(32);
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  /** Who logged in, for the log. */
  get user(): string {
    return this.#user;
  }

  /** The answer to the next keys of the initiator. @throws LoginError when it is not who it says. */
  step(pairs: Pairs): [string, string][] {
    switch (this.#state) {
      case 'begun':
        return this.#begin(pairs.get('CHAP_A'));
      case 'challenged':
        return this.#verify(pairs);
      case 'done':
        throw denied('CHAP goes on after its end');
    }
  }

  #begin(offered: string | undefined): [string, string][] {
    if (offered === undefined) throw denied('CHAP without CHAP_A');
    const ids = offered.split(',');
    this.#algorithm = algorithms.find(({ id }) => ids.includes(String(id)));
    if (this.#algorithm === undefined) throw denied(`no CHAP algorithm of ${offered.slice(0, 40)} is known here`);
    this.#state = 'challenged';
    return [
      ['CHAP_A', String(this.#algorithm.id)],
      ['CHAP_I', String(this.#id)],
      ['CHAP_C', `0x${this.#challenge.toString('hex')}`],
    ];
  }

  #verify(pairs: Pairs): [string, string][] {
    const { hash, bytes } = this.#algorithm!;
    const name = pairs.get('CHAP_N') ?? '';
    const response = parseBinary(pairs.get('CHAP_R') ?? '', bytes);
    const shown = JSON.stringify(name.slice(0, 60));
    if (name === '' || name.length > NAME_CHARACTERS_MAX || response?.length !== bytes) {
      throw denied('CHAP_N or CHAP_R is missing or malformed');
    }
    const secret = this.#secrets.users.get(name);
    // An unknown user takes as long as a wrong secret.
    const expected = chapResponse(hash, this.#id, secret ?? '', this.#challenge);
    if (!timingSafeEqual(expected, response) || secret === undefined) throw denied(`CHAP of user ${shown} failed`);
    this.#user = name;
    this.#state = 'done';
    return this.#answer(pairs);
  }

  /** Mutual: what the initiator asks of the target. */
  #answer(pairs: Pairs): [string, string][] {
    const { hash } = this.#algorithm!;
    const { mutual } = this.#secrets;
    if (!pairs.has('CHAP_I') && !pairs.has('CHAP_C')) return [];
    if (mutual === undefined) throw denied('the initiator asks for mutual CHAP, which is not configured');
    const id = parseNumber(pairs.get('CHAP_I') ?? '', 0, 255);
    const challenge = parseBinary(pairs.get('CHAP_C') ?? '', CHALLENGE_BYTES_MAX);
    if (id === undefined || challenge === undefined) throw denied('CHAP_I or CHAP_C is malformed');
    // RFC 7143, 12.1.3: who gets its own challenge answered could log in with it elsewhere.
    if (challenge.equals(this.#challenge)) throw denied("the initiator sent back the target's challenge");
    return [
      ['CHAP_N', mutual.name],
      ['CHAP_R', `0x${chapResponse(hash, id, mutual.secret, challenge).toString('hex')}`],
    ];
  }
}
