import { ProtocolError } from '../net/errors.ts';
import { isBefore, next, type Pdu } from './pdu.ts';

/**
 * The sequence numbers of a session on its one connection (RFC 7143, 4.2.2). `room`: how many commands it can have under way
 * beyond those that it has. No command is taken before the first `openWindow`.
 */
export class Serials {
  readonly #room: () => number;
  #statSn: number;
  #expCmdSn: number;
  #maxCmdSn: number;

  constructor(start: { readonly statSn: number; readonly expCmdSn: number }, room: () => number) {
    this.#room = room;
    this.#statSn = start.statSn;
    this.#expCmdSn = start.expCmdSn;
    this.#maxCmdSn = next(start.expCmdSn, -1);
  }

  /** Of the next status. */
  get statSn(): number {
    return this.#statSn;
  }

  get expCmdSn(): number {
    return this.#expCmdSn;
  }

  get maxCmdSn(): number {
    return this.#maxCmdSn;
  }

  /** A PDU with a status has got the number `statSn`: the initiator acknowledges it. */
  useStatSn(): void {
    this.#statSn = next(this.#statSn);
  }

  /** MaxCmdSN never goes back (RFC 7143, 4.2.2.1). */
  openWindow(): void {
    const max = next(this.#expCmdSn, this.#room() - 1);
    if (isBefore(this.#maxCmdSn, max)) this.#maxCmdSn = max;
  }

  /**
   * Whether a request is the next in the order of commands (RFC 7143, 4.2.2.1). False: it is outside of the window, and
   * ignored. A gap within it cannot be closed, for there is one connection, and no recovery on it.
   * @throws ProtocolError
   */
  takes({ immediate, cmdSn }: Pdu): boolean {
    if (immediate) return true;
    if (isBefore(cmdSn, this.#expCmdSn) || isBefore(this.#maxCmdSn, cmdSn)) return false;
    if (cmdSn !== this.#expCmdSn) throw new ProtocolError(`CmdSN ${cmdSn} where ${this.#expCmdSn} is next`);
    this.#expCmdSn = next(cmdSn);
    return true;
  }
}
