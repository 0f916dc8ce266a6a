import { tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { Chap, type ChapSecrets } from './chap.ts';
import {
  BHS_BYTES,
  Flag,
  LOGIN_DATA_BYTES,
  LoginStatus,
  NAME_BYTES_MAX,
  Opcode,
  PORTAL_GROUP,
  Stage,
} from './constants.ts';
import { LoginError } from './errors.ts';
import { LOGIN_REQUESTS_MAX, TEXT_BYTES_MAX } from './limits.ts';
import { isName, prepareName } from './names.ts';
import { defaultParameters, negotiate, offer, type Parameters, settle } from './negotiate.ts';
import { header, type Pdu } from './pdu.ts';
import type { Target, Targets } from './targets.ts';
import { encodePairs, type Pairs, parsePairs } from './text.ts';

/** What a login settled. */
export interface Established {
  readonly initiator: string;
  readonly isid: string;
  readonly cid: number;
  /** Undefined: a discovery session. */
  readonly target: Target | undefined;
  readonly parameters: Readonly<Parameters>;
  /** The next StatSN, and the CmdSN that comes next. */
  readonly statSn: number;
  readonly expCmdSn: number;
}

/** What a login needs of its connection. */
export interface LoginHost {
  readonly targets: Targets;
  readonly chap: ChapSecrets | undefined;
  /** IP address of the initiator. */
  readonly address: string;
  /** Resolves when the bytes are on their way. Rejects when the initiator is gone. */
  send(bytes: Buffer): Promise<void>;
  /**
   * Makes room for the session: one of the same initiator port and target is ended first, as it has to be (RFC 7143, 6.3.5).
   * The handle of the session. Rejects with LoginError.
   */
  admit(established: Established, tsih: number): Promise<number>;
  /** The full feature phase begins. The last response is on its way. */
  established(established: Established): void;
  /** Input can go on. */
  resume(): void;
  /** The login is refused and the initiator knows: the connection ends. */
  refused(error: LoginError): void;
  fail(error: unknown): void;
}

const trace = tracer('iscsi');

/** Keys that say who and what, in the first request (RFC 7143, 6.3.1). */
const identityKeys = new Set([
  'InitiatorName',
  'InitiatorAlias',
  'SessionType',
  'TargetName',
  'TargetAlias',
  'TargetAddress',
]);
const chapKeys = new Set(['CHAP_A', 'CHAP_I', 'CHAP_C', 'CHAP_N', 'CHAP_R']);

/**
 * security ──► operational ──► done, or straight from either to done; each request of the initiator names its stage and
 * where it wants to go. Only one request is under way at a time.
 */
export class Login {
  readonly receiveBytes = LOGIN_DATA_BYTES;
  readonly #host: LoginHost;
  #stage: number = Stage.SECURITY;
  #first: Pdu | undefined;
  #requests = 0;
  #text: Buffer[] = [];
  #textBytes = 0;
  #statSn = 0;
  #initiator = '';
  #discovery = false;
  #targetName: string | undefined;
  #target: Target | undefined;
  readonly #parameters: Parameters = { ...defaultParameters };
  readonly #done = new Set<string>();
  #chap: Chap | undefined;
  #declared = false;
  #grouped = false;
  #busy = false;
  #closed = false;

  constructor(host: LoginHost) {
    this.#host = host;
  }

  /** A request is being answered: the next one waits. */
  get congested(): boolean {
    return this.#busy || this.#closed;
  }

  /** The initiator is gone. */
  close(): void {
    this.#closed = true;
  }

  begin(pdu: Pdu): Window {
    if (pdu.opcode !== Opcode.LOGIN_REQUEST) throw new ProtocolError(`PDU 0x${pdu.opcode.toString(16)} before a login`);
    return { bytes: Buffer.alloc(pdu.dataLength) };
  }

  complete(pdu: Pdu, data: Uint8Array | undefined): void {
    this.#busy = true;
    this.#take(pdu, Buffer.from(data!)).then(
      () => {
        this.#busy = false;
        if (!this.#closed) this.#host.resume();
      },
      (error) => this.#refuse(pdu, error),
    );
  }

  async #take(pdu: Pdu, data: Buffer): Promise<void> {
    this.#check(pdu);
    this.#textBytes += data.length;
    if (this.#textBytes > TEXT_BYTES_MAX) throw invalid(`more than ${TEXT_BYTES_MAX} bytes of login text`);
    this.#text.push(data);
    if ((pdu.flags & Flag.CONTINUE) !== 0) {
      if ((pdu.flags & Flag.TRANSIT) !== 0) throw invalid('a login request with both T and C');
      return this.#respond(pdu, [], false);
    }
    let pairs: Pairs;
    try {
      pairs = parsePairs(Buffer.concat(this.#text));
    } catch (error) {
      throw invalid((error as Error).message);
    }
    this.#text = [];
    this.#textBytes = 0;
    await this.#run(pdu, pairs);
  }

  /** The header of a login request, 11.12. */
  #check(pdu: Pdu): void {
    const csg = (pdu.flags >> 2) & 3;
    const nsg = pdu.flags & 3;
    const transit = (pdu.flags & Flag.TRANSIT) !== 0;
    if (++this.#requests > LOGIN_REQUESTS_MAX) throw invalid(`more than ${LOGIN_REQUESTS_MAX} login requests`);
    if (this.#first === undefined) {
      this.#first = pdu;
      this.#statSn = pdu.expStatSn;
      this.#stage = csg;
      if (pdu.versionMin > 0) throw new LoginError(LoginStatus.UNSUPPORTED_VERSION, `version ${pdu.versionMin}`);
    } else if (pdu.isid !== this.#first.isid || pdu.itt !== this.#first.itt || pdu.cid !== this.#first.cid) {
      throw invalid('a login request of another login');
    }
    if (csg === 2 || csg === Stage.FULL_FEATURE || csg !== this.#stage) throw invalid(`login stage ${csg}`);
    if (transit && (nsg === 2 || nsg <= csg)) throw invalid(`transit from login stage ${csg} to ${nsg}`);
  }

  async #run(pdu: Pdu, pairs: Pairs): Promise<void> {
    if (this.#initiator === '') this.#identify(pairs);
    const answers: [string, string][] = [];
    if (this.#stage === Stage.SECURITY) this.#security(pairs, answers);
    else {
      this.#authenticated();
      this.#operational(pairs, answers);
    }
    const nsg = pdu.flags & 3;
    let transit = (pdu.flags & Flag.TRANSIT) !== 0;
    // The initiator may want to go on before it has said who it is.
    if (transit && this.#stage === Stage.SECURITY && this.#host.chap !== undefined) transit = this.#chap?.done === true;
    if (!this.#discovery && !this.#grouped) {
      answers.push(['TargetPortalGroupTag', String(PORTAL_GROUP)]);
      this.#grouped = true;
    }
    if (!transit) return this.#respond(pdu, answers, false);
    this.#authenticated();
    if (!this.#discovery && this.#target === undefined) this.#target = await this.#find(this.#targetName!);
    if (nsg !== Stage.FULL_FEATURE) {
      await this.#respond(pdu, answers, true);
      this.#stage = nsg;
      return;
    }
    await this.#finish(pdu, answers);
  }

  #identify(pairs: Pairs): void {
    const name = prepareName(pairs.get('InitiatorName') ?? '');
    if (name === '') throw new LoginError(LoginStatus.MISSING_PARAMETER, 'login without InitiatorName');
    if (Buffer.byteLength(name) > NAME_BYTES_MAX || !isName(name)) {
      throw new LoginError(LoginStatus.INITIATOR_ERROR, `${JSON.stringify(name.slice(0, 60))} is no iSCSI name`);
    }
    const type = pairs.get('SessionType') ?? 'Normal';
    if (type !== 'Normal' && type !== 'Discovery') {
      throw new LoginError(LoginStatus.SESSION_TYPE_NOT_SUPPORTED, `session type ${type.slice(0, 40)}`);
    }
    this.#discovery = type === 'Discovery';
    this.#targetName = pairs.get('TargetName');
    if (!this.#discovery && this.#targetName === undefined) {
      throw new LoginError(LoginStatus.MISSING_PARAMETER, 'login without TargetName');
    }
    this.#initiator = name;
  }

  #security(pairs: Pairs, answers: [string, string][]): void {
    const methods = pairs.get('AuthMethod')?.split(',');
    const needed = this.#host.chap === undefined ? 'None' : 'CHAP';
    if (methods !== undefined) {
      if (!methods.includes(needed)) {
        throw new LoginError(LoginStatus.AUTHENTICATION_FAILURE, `the initiator does not offer AuthMethod ${needed}`);
      }
      answers.push(['AuthMethod', needed]);
      if (this.#host.chap !== undefined) this.#chap ??= new Chap(this.#host.chap);
    }
    const proves = [...pairs.keys()].some((key) => chapKeys.has(key));
    if (proves) {
      if (this.#chap === undefined) throw invalid('CHAP that was not negotiated');
      answers.push(...this.#chap.step(pairs));
    }
    for (const key of pairs.keys()) {
      if (key !== 'AuthMethod' && !identityKeys.has(key) && !chapKeys.has(key)) answers.push([key, 'NotUnderstood']);
    }
  }

  #authenticated(): void {
    if (this.#host.chap === undefined || this.#chap?.done === true) return;
    throw new LoginError(LoginStatus.AUTHENTICATION_FAILURE, 'login without CHAP');
  }

  #operational(pairs: Pairs, answers: [string, string][]): void {
    const session = { discovery: this.#discovery, done: this.#done };
    for (const [key, value] of pairs) {
      if (identityKeys.has(key)) continue;
      const answer = negotiate(key, value, this.#parameters, session);
      if (answer !== undefined) answers.push([key, answer]);
    }
    if (this.#declared) return;
    answers.push(['MaxRecvDataSegmentLength', String(offer.receiveBytes)]);
    this.#declared = true;
  }

  async #find(name: string): Promise<Target> {
    const target = await this.#host.targets.find({ name: this.#initiator, address: this.#host.address }, name);
    const shown = JSON.stringify(name.slice(0, NAME_BYTES_MAX));
    if (target === 'awaited')
      throw new LoginError(LoginStatus.SERVICE_UNAVAILABLE, `the pool of ${shown} is not back yet`);
    if (target === undefined) throw new LoginError(LoginStatus.NOT_FOUND, `there is no target ${shown}`);
    if (target === 'denied')
      throw new LoginError(LoginStatus.AUTHORIZATION_FAILURE, `${shown} is not for this initiator`);
    return target;
  }

  async #finish(pdu: Pdu, answers: [string, string][]): Promise<void> {
    settle(this.#parameters);
    const established: Established = {
      initiator: this.#initiator,
      isid: this.#first!.isid,
      cid: this.#first!.cid,
      target: this.#target,
      parameters: this.#parameters,
      statSn: (this.#statSn + 1) >>> 0,
      expCmdSn: this.#first!.cmdSn,
    };
    const tsih = await this.#host.admit(established, this.#first!.tsih);
    await this.#respond(pdu, answers, true, tsih);
    trace?.({ initiator: this.#initiator, target: this.#target?.name, parameters: this.#parameters }, 'logged in');
    if (!this.#closed) this.#host.established(established);
  }

  #respond(pdu: Pdu, answers: readonly [string, string][], transit: boolean, tsih?: number): Promise<void> {
    const text = encodePairs(answers);
    const stages = pdu.flags & (transit ? 0x0f : 0x0c);
    const bytes = this.#header(pdu, (transit ? Flag.TRANSIT : 0) | stages, text.length, LoginStatus.SUCCESS);
    if (tsih !== undefined) bytes.writeUInt16BE(tsih, 14);
    return this.#host.send(Buffer.concat([bytes, text, Buffer.alloc(-text.length & 3)]));
  }

  /** 11.13. The handle of the session is the initiator's until there is one. */
  #header(pdu: Pdu, flags: number, textLength: number, status: number): Buffer {
    const cmdSn = this.#first?.cmdSn ?? pdu.cmdSn;
    const serials = { statSn: this.#statSn, expCmdSn: cmdSn, maxCmdSn: cmdSn };
    const bytes = header(Opcode.LOGIN_RESPONSE, flags, textLength, pdu.itt, serials, Buffer.alloc(BHS_BYTES));
    pdu.bytes.copy(bytes, 8, 8, 16); // ISID, TSIH
    bytes.writeUInt16BE(status, 36);
    this.#statSn = (this.#statSn + 1) >>> 0;
    return bytes;
  }

  #refuse(pdu: Pdu, error: unknown): void {
    if (this.#closed) return;
    if (!(error instanceof LoginError)) {
      this.#host.fail(error);
      return;
    }
    const response = this.#header(pdu, pdu.flags & 0x0c, 0, error.status);
    // The initiator may be gone before it reads this.
    this.#host.send(response).then(
      () => this.#host.refused(error),
      () => this.#host.refused(error),
    );
  }
}

function invalid(message: string): LoginError {
  return new LoginError(LoginStatus.INVALID_DURING_LOGIN, message);
}
