import { tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { encodeSense, type Sense } from '../scsi/sense.ts';
import type { Units } from '../scsi/units.ts';
import type { Share } from '../volumes/share.ts';
import { Commands } from './commands.ts';
import { AsyncEvent, LogoutReason, LogoutResponse, Opcode, RESERVED_TAG, RejectReason } from './constants.ts';
import { type IscsiLimits, TASK_FUNCTIONS_MAX } from './limits.ts';
import type { Established } from './login.ts';
import type { IscsiMetrics } from './metrics.ts';
import { offer, type Parameters } from './negotiate.ts';
import type { Output } from './output.ts';
import type { Pdu } from './pdu.ts';
import { Sender } from './sender.ts';
import { Serials } from './serials.ts';
import { type SessionUnit, SessionUnits } from './session-units.ts';
import type { StashBudget } from './stash.ts';
import { runTaskFunction } from './task-management.ts';
import { type Discovered, TextExchange } from './text-exchange.ts';

/** What a session needs of its connection. */
export interface SessionHost {
  readonly output: Output;
  readonly units: Units;
  readonly limits: IscsiLimits;
  readonly metrics: IscsiMetrics;
  /** Where commands on a volume get their buffers. */
  shareOf(volume: string): Share;
  /** Memory for data that come before there is a buffer for them. */
  readonly stash: StashBudget;
  /** The targets that this initiator may log in to; of a normal session its own. */
  discover(): Discovered;
  /** The answer of a `begin` that said 'wait'. */
  place(target: Window | undefined): void;
  /** The data that are coming belong to a command that is aborted: its memory is another's now. */
  drop(): void;
  /** No more input: what is under way is answered, then the connection ends. */
  finish(reason: string): void;
  /** The last answer is on its way after `finish`, and the volumes are given back. */
  drained(): void;
  fail(error: unknown): void;
}

const trace = tracer('iscsi');

/**
 * The full feature phase of one session on its one connection: what comes goes to who knows about it (commands.ts,
 * task-management.ts, text-exchange.ts). What is not an error of a command but of the protocol is thrown as ProtocolError.
 */
export class Session {
  readonly receiveBytes = offer.receiveBytes;
  readonly initiator: string;
  readonly target: string | undefined;
  readonly parameters: Parameters;
  readonly #host: SessionHost;
  readonly #cid: number;
  readonly #units: SessionUnits;
  readonly #serials: Serials;
  readonly #sender: Sender;
  readonly #text: TextExchange;
  readonly #commands: Commands;
  /** A request outside of the window, whose data are coming. */
  #ignored: Pdu | undefined;
  #runningFunctions = 0;
  #pingTag: number | undefined;
  #flushes = false;
  #finishing = false;
  #farewell: (() => void) | undefined;
  #releasing = false;
  #closed = false;

  constructor(host: SessionHost, established: Established) {
    this.#host = host;
    this.initiator = established.initiator;
    this.target = established.target?.name;
    this.parameters = { ...established.parameters };
    this.#cid = established.cid;
    this.#units = new SessionUnits(host.units, established, {
      allGone: (reason) => this.#allGone(reason),
      event: (unit, sense) => this.#event(unit, sense),
    });
    this.#serials = new Serials(established, () => this.#commands.room);
    this.#sender = new Sender(host.output, this.parameters, this.#serials);
    this.#text = new TextExchange(this.#sender, this.parameters, this.target, () => host.discover());
    const { limits, metrics, stash } = host;
    this.#commands = new Commands(
      {
        limits,
        metrics,
        stash,
        shareOf: (volume) => host.shareOf(volume),
        place: (target) => host.place(target),
        drop: () => host.drop(),
        idle: () => this.#checkDrained(),
        fail: (error) => host.fail(error),
      },
      this.#units,
      this.parameters,
      this.#sender,
    );
    this.#serials.openWindow();
    host.output.headerDigest = this.parameters.headerDigest;
    host.output.dataDigest = this.parameters.dataDigest;
  }

  get congested(): boolean {
    return this.#host.output.congested || this.#finishing;
  }

  /** Commands between their arrival and their answer. */
  get inFlight(): number {
    return this.#commands.inFlight;
  }

  /** Bytes of the buffer pool this session keeps from others. */
  get heldBytes(): number {
    return this.#commands.heldBytes;
  }

  /** Volumes it has open. */
  get volumes(): string[] {
    return this.#units.volumes;
  }

  /** The initiator is to act next: to read answers, or to send data that were asked for. */
  get waitsForInitiator(): boolean {
    return this.#host.output.busy || this.#commands.needData;
  }

  /** Asks the initiator whether it is there. False: it has not answered the last time. */
  ping(): boolean {
    if (this.#pingTag !== undefined) return false;
    if (!this.#finishing) this.#pingTag = this.#sender.ping();
    return true;
  }

  // --- What the receiver delivers ---

  begin(pdu: Pdu): Window | undefined | 'wait' {
    this.#ignored = undefined;
    switch (pdu.opcode) {
      case Opcode.SCSI_COMMAND:
        return this.#takesTurn(pdu) ? this.#command(pdu) : undefined;
      case Opcode.DATA_OUT:
        return this.#commands.beginDataOut(pdu);
      case Opcode.NOP_OUT:
      case Opcode.TASK_MANAGEMENT_REQUEST:
      case Opcode.TEXT_REQUEST:
      case Opcode.LOGOUT_REQUEST:
        return this.#takesTurn(pdu) ? { bytes: Buffer.alloc(pdu.dataLength) } : undefined;
      default:
        return undefined;
    }
  }

  complete(pdu: Pdu, data: Uint8Array | undefined): void {
    if (this.#ignored === pdu || this.#finishing) return;
    switch (pdu.opcode) {
      case Opcode.SCSI_COMMAND:
      case Opcode.DATA_OUT:
        this.#commands.complete(pdu);
        return;
      case Opcode.NOP_OUT:
        this.#nopOut(pdu, data!);
        return;
      case Opcode.TASK_MANAGEMENT_REQUEST:
        this.#taskManagement(pdu);
        return;
      case Opcode.TEXT_REQUEST:
        this.#text.came(pdu, Buffer.from(data!));
        return;
      case Opcode.LOGOUT_REQUEST:
        this.#logout(pdu);
        return;
      case Opcode.SNACK_REQUEST:
        this.#sender.reject(pdu, RejectReason.SNACK); // error recovery level 0
        return;
      case Opcode.LOGIN_REQUEST:
        throw new ProtocolError('a login request in the full feature phase');
      default:
        this.#sender.reject(pdu, RejectReason.NOT_SUPPORTED);
    }
  }

  #takesTurn(pdu: Pdu): boolean {
    if (this.#serials.takes(pdu)) return true;
    trace?.({ initiator: this.initiator, cmdSn: pdu.cmdSn }, 'CmdSN outside of the window');
    this.#ignored = pdu;
    return false;
  }

  #command(pdu: Pdu): Window | undefined | 'wait' {
    if (this.target === undefined) throw new ProtocolError('a SCSI command in a discovery session');
    return this.#commands.begin(pdu);
  }

  // --- Requests without SCSI, and what the target says by itself ---

  /** 11.18. */
  #nopOut(pdu: Pdu, data: Uint8Array): void {
    if (pdu.itt !== RESERVED_TAG) this.#sender.echo(pdu, data);
    else if (pdu.ttt === this.#pingTag) this.#pingTag = undefined;
  }

  /** 11.5. The answer comes when what is aborted is over. */
  #taskManagement(pdu: Pdu): void {
    if (this.#runningFunctions >= TASK_FUNCTIONS_MAX) {
      this.#sender.reject(pdu, RejectReason.TOO_MANY_IMMEDIATE);
      return;
    }
    this.#host.metrics.taskManagement++;
    this.#runningFunctions++;
    trace?.({ itt: pdu.itt, function: pdu.function, referenced: pdu.ttt }, 'task management');
    runTaskFunction(pdu, this.#units, {
      abortTask: (itt) => this.#commands.abort(itt),
      dropSession: () => setImmediate(() => this.#host.finish('target cold reset')),
    })
      .then((response) => {
        if (!this.#closed) this.#sender.taskResponse(pdu, response);
      })
      .catch((error: unknown) => this.#host.fail(error))
      .finally(() => {
        this.#runningFunctions--;
        this.#checkDrained();
      });
  }

  /** 11.14: what runs is answered before, what waits for data or memory is dropped. */
  #logout(pdu: Pdu): void {
    const reason = pdu.function;
    if (reason === LogoutReason.REMOVE_FOR_RECOVERY) {
      this.#sender.logoutResponse(pdu, LogoutResponse.RECOVERY_NOT_SUPPORTED);
    } else if (reason === LogoutReason.CLOSE_CONNECTION && pdu.cid !== this.#cid) {
      this.#sender.logoutResponse(pdu, LogoutResponse.CID_NOT_FOUND);
    } else if (reason > LogoutReason.REMOVE_FOR_RECOVERY) {
      this.#sender.reject(pdu, RejectReason.INVALID_PDU_FIELD);
    } else {
      this.#farewell = () => this.#sender.logoutResponse(pdu, LogoutResponse.SUCCESS);
      this.#host.finish('logout');
    }
  }

  /** An initiator that asks nothing hears of it all the same; its next command is told, too. */
  #event({ lun, lease }: SessionUnit, sense: Sense): void {
    if (this.#finishing) return;
    this.#sender.asyncMessage(AsyncEvent.SCSI, lun, lease?.unit.sense(sense) ?? encodeSense(sense, false));
  }

  #allGone(reason: string): void {
    if (this.#finishing) return;
    this.#sender.asyncMessage(AsyncEvent.SESSION_DROPS);
    this.#host.finish(reason);
  }

  // --- The end ---

  /** To be followed by `finish`: what the initiator wrote is made durable before its volumes are closed. */
  shutDown(): void {
    if (this.#finishing) return;
    this.#flushes = true;
    this.#sender.asyncMessage(AsyncEvent.SESSION_DROPS);
  }

  /** Takes no further PDU; calls the host's `drained` after the last answer. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#commands.finish();
    this.#checkDrained();
  }

  /** The wire is closed: what runs runs to its end for nobody. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.finish();
    this.#commands.close();
    this.#host.output.close();
    this.#checkDrained();
  }

  #checkDrained(): void {
    if (!this.#finishing || this.#releasing) return;
    if (!this.#commands.isIdle || this.#runningFunctions > 0) return;
    this.#releasing = true;
    if (!this.#closed) this.#farewell?.();
    this.#units.release(this.#flushes).then(
      () => this.#host.drained(),
      (error) => {
        trace?.({ error: String(error) }, 'closing a volume failed');
        this.#host.drained();
      },
    );
  }
}
