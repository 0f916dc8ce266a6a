import { ProtocolError } from '../net/errors.ts';
import { Flag } from './constants.ts';
import { TEXT_BYTES_MAX } from './limits.ts';
import { type Parameters, renegotiate } from './negotiate.ts';
import type { Pdu } from './pdu.ts';
import type { Sender } from './sender.ts';
import { encodePairs, parsePairs } from './text.ts';

/** Names and the address of the targets that an initiator may log in to. */
export interface Discovered {
  readonly names: readonly string[];
  readonly address: string;
}

/** Text requests of the full feature phase (RFC 7143, 11.10, and 4.3): discovery, and what may change after the login. */
export class TextExchange {
  readonly #sender: Sender;
  readonly #parameters: Parameters;
  /** Of a normal session. */
  readonly #target: string | undefined;
  readonly #discover: () => Discovered;
  /** What is left of the answer to a request, and its tag. */
  #rest: { readonly ttt: number; readonly text: Buffer } | undefined;
  #request: Buffer[] = [];
  #requestBytes = 0;

  constructor(sender: Sender, parameters: Parameters, target: string | undefined, discover: () => Discovered) {
    this.#sender = sender;
    this.#parameters = parameters;
    this.#target = target;
    this.#discover = discover;
  }

  /** @throws ProtocolError */
  came(pdu: Pdu, data: Buffer): void {
    if (this.#rest !== undefined && pdu.ttt === this.#rest.ttt) {
      this.#respond(pdu, this.#rest.text);
      return;
    }
    this.#rest = undefined;
    this.#requestBytes += data.length;
    if (this.#requestBytes > TEXT_BYTES_MAX) throw new ProtocolError(`more than ${TEXT_BYTES_MAX} bytes of text`);
    this.#request.push(data);
    if ((pdu.flags & Flag.CONTINUE) !== 0) {
      this.#sender.text(pdu, Buffer.alloc(0), 'go on');
      return;
    }
    const pairs = parsePairs(Buffer.concat(this.#request));
    this.#request = [];
    this.#requestBytes = 0;
    const answers: [string, string][] = [];
    for (const [key, value] of pairs) {
      if (key === 'SendTargets') answers.push(...this.#sendTargets(value));
      else {
        const answer = renegotiate(key, value, this.#parameters);
        if (answer !== undefined) answers.push([key, answer]);
      }
    }
    this.#respond(pdu, encodePairs(answers));
  }

  #respond(pdu: Pdu, text: Buffer): void {
    const piece = text.subarray(0, this.#parameters.sendBytes);
    const rest = text.subarray(piece.length);
    const ttt = this.#sender.text(pdu, piece, rest.length > 0 ? 'more' : 'last');
    this.#rest = rest.length > 0 ? { ttt, text: rest } : undefined;
  }

  /** RFC 7143, appendix C: of a normal session only its own target. */
  #sendTargets(value: string): [string, string][] {
    const { names, address } = this.#discover();
    const wanted = value === '' || this.#target !== undefined ? this.#target : value;
    if (value !== 'All' && wanted === undefined) return [['SendTargets', 'Reject']];
    const listed = value === 'All' && this.#target === undefined ? names : names.filter((name) => name === wanted);
    return listed.flatMap((name): [string, string][] => [
      ['TargetName', name],
      ['TargetAddress', address],
    ]);
  }
}
