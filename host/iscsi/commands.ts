import { tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { Asc, SenseKey, Status } from '../scsi/constants.ts';
import { check, type Outcome, type Sense, senseOf } from '../scsi/sense.ts';
import { isPlan, type Plan, type Result } from '../scsi/unit.ts';
import type { Share } from '../volumes/share.ts';
import { Admission } from './admission.ts';
import { Flag, RESERVED_TAG, RejectReason } from './constants.ts';
import { DataOut } from './data-out.ts';
import type { IscsiLimits } from './limits.ts';
import type { IscsiMetrics } from './metrics.ts';
import type { Parameters } from './negotiate.ts';
import type { Pdu } from './pdu.ts';
import { planCommand, type Refusal } from './planning.ts';
import type { Sender } from './sender.ts';
import type { SessionUnit, SessionUnits } from './session-units.ts';
import type { StashBudget } from './stash.ts';
import { CommandTask } from './task.ts';

/** What the commands of a session need of it and of its connection. */
export interface CommandsHost {
  readonly limits: IscsiLimits;
  readonly metrics: IscsiMetrics;
  /** Memory for data that come before there is a buffer for them. */
  readonly stash: StashBudget;
  /** Where commands on a volume get their buffers. */
  shareOf(volume: string): Share;
  /** The answer of a `begin` that said 'wait'. */
  place(target: Window | undefined): void;
  /** The data that are coming belong to a command that is aborted: its memory is another's now. */
  drop(): void;
  /** Nothing is under way, and every answer is with the socket. */
  idle(): void;
  fail(error: unknown): void;
}

const busy: Outcome = { status: Status.TASK_SET_FULL };
const dataPhaseError: Sense = { key: SenseKey.ABORTED_COMMAND, asc: Asc.DATA_PHASE_ERROR };

const trace = tracer('iscsi');

/**
 * The SCSI commands of a session, from their headers to their answers. They run concurrently, their answers go out as they
 * complete.
 *
 *   header ─► plan (planning.ts) ─► buffer (admission.ts) ─► data (data-out.ts) ─► turn, run (host/scsi) ─► answer (sender.ts)
 *
 * A command that moves data first gets its buffer, in turn. Then the rest of its data is asked for (R2T): who has a buffer
 * needs nothing but bytes from the initiator to come to an end. So input never waits for memory while such data are missing:
 * what comes unasked with another command meanwhile is kept aside, in bounded memory, and where that is full the command is
 * refused with TASK SET FULL.
 */
export class Commands {
  readonly #host: CommandsHost;
  readonly #units: SessionUnits;
  readonly #parameters: Parameters;
  readonly #sender: Sender;
  readonly #admission: Admission;
  readonly #dataOut: DataOut;
  /** Between their arrival and their answer, by initiator task tag. */
  readonly #tasks = new Map<number, CommandTask>();
  /** The command whose unasked data the socket waits with. */
  #placing: CommandTask | undefined;
  /** A refused command whose immediate data are coming. */
  #refused: { readonly task: CommandTask; readonly result: Result } | undefined;
  /** Answers that are not with the socket yet. */
  #answering = 0;
  #finishing = false;
  #closed = false;

  constructor(host: CommandsHost, units: SessionUnits, parameters: Parameters, sender: Sender) {
    this.#host = host;
    this.#units = units;
    this.#parameters = parameters;
    this.#sender = sender;
    this.#admission = new Admission({
      limits: host.limits,
      shareOf: (volume) => host.shareOf(volume),
      granted: (task) => this.#run(() => this.#granted(task)),
      denied: (task, error) => this.#run(() => this.#denied(task, error)),
    });
    this.#dataOut = new DataOut(sender, parameters, {
      ready: (task) => this.#execute(task),
      broken: (task) => this.#broken(task),
      discarded: (task) => this.#forget(task),
    });
  }

  /** Between their arrival and their answer. */
  get inFlight(): number {
    return this.#tasks.size;
  }

  /** How many more there can be. */
  get room(): number {
    return this.#admission.window - this.#tasks.size;
  }

  /** Bytes of the buffer pool that they keep from others. */
  get heldBytes(): number {
    return this.#admission.heldBytes;
  }

  /** Nothing is under way, and every answer is with the socket. */
  get isIdle(): boolean {
    return this.#tasks.size === 0 && this.#answering === 0;
  }

  /** Whether data are missing that only come when input is taken. */
  get needData(): boolean {
    return this.#needsData();
  }

  /** Of a command other than `than`. */
  #needsData(than?: CommandTask): boolean {
    for (const task of this.#tasks.values()) if (task !== than && task.needsSolicited) return true;
    return false;
  }

  /** A Data-Out's header; where its data go. */
  beginDataOut(pdu: Pdu): Window | undefined {
    this.#dataOut.reset();
    return this.#dataOut.began(pdu, this.#tasks.get(pdu.itt));
  }

  /** A command with its immediate data, or a Data-Out, is whole. */
  complete(pdu: Pdu): void {
    if (this.#refused?.task.pdu === pdu) this.#answerRefused(this.#refused.task, this.#refused.result);
    else this.#dataOut.came(pdu);
  }

  // --- A command comes ---

  /**
   * A command's header; where its immediate data go, or 'wait': `place` of the host tells later.
   * @throws ProtocolError
   */
  begin(pdu: Pdu): Window | undefined | 'wait' {
    this.#dataOut.reset();
    trace?.({ itt: pdu.itt, cdb: pdu.cdb.toString('hex'), expected: pdu.expectedLength, flags: pdu.flags }, 'command');
    if (pdu.itt === RESERVED_TAG || this.#tasks.has(pdu.itt)) throw new ProtocolError('an initiator task tag twice');
    // The window does not hold them back.
    if (pdu.immediate && this.room <= 0) {
      this.#sender.reject(pdu, RejectReason.TOO_MANY_IMMEDIATE);
      return undefined;
    }
    this.#checkUnsolicited(pdu);
    const unit = this.#units.of(pdu.lun);
    if (unit === undefined || unit.lease !== undefined || unit.gone) return this.#start(pdu, unit);
    // Its data wait meanwhile: it is the first command of the session.
    void this.#units.open(unit).then(() =>
      this.#run(() => {
        const target = this.#start(pdu, unit);
        if (target !== 'wait') this.#host.place(target);
      }),
    );
    return 'wait';
  }

  /** What comes without being asked for must be as agreed (RFC 7143, 4.2.5.2): else nobody knows what comes next. */
  #checkUnsolicited(pdu: Pdu): void {
    const { immediateData, initialR2t, firstBurstBytes } = this.#parameters;
    const writes = (pdu.flags & Flag.WRITE) !== 0;
    if (!pdu.final && (!writes || initialR2t)) throw new ProtocolError('unsolicited data that were not agreed on');
    if (pdu.dataLength === 0) return;
    if (!writes || !immediateData) throw new ProtocolError('immediate data that were not agreed on');
    if (pdu.dataLength > firstBurstBytes || pdu.dataLength > pdu.expectedLength) {
      throw new ProtocolError(`immediate data of ${pdu.dataLength} bytes`);
    }
  }

  /** The first look at a command; where its immediate data go. */
  #start(pdu: Pdu, unit: SessionUnit | undefined): Window | undefined | 'wait' {
    if (this.#finishing) return undefined;
    const planned = planCommand(pdu, unit, this.#units.luns);
    const plan = isPlan(planned) ? planned : undefined;
    const task = new CommandTask({
      nexus: unit?.nexus ?? this.#units.strangerNexus,
      unit: unit?.lease?.unit,
      pdu,
      plan,
      expected: (pdu.flags & (Flag.READ | Flag.WRITE)) === 0 ? 0 : pdu.expectedLength,
      onAbort: (aborted) => this.#aborted(aborted),
    });
    this.#remember(task);
    task.unsolicited = !pdu.final;
    if (plan === undefined) return this.#refuse(task, planned as Refusal);
    this.#count(plan);
    task.unit!.tasks.add(task);
    task.queued = true;
    return this.#admit(task);
  }

  #count({ command: { spec } }: Plan): void {
    const { commands } = this.#host.metrics;
    if (spec.verb === 'read') commands.read++;
    else if (spec.verb === 'write') commands.write++;
    else if (spec.verb === 'synchronize') commands.flush++;
    else if (spec.verb === 'unmap') commands.unmap++;
    else commands.other++;
  }

  /** Gets the command its buffer, or has it wait; where its immediate data go. */
  #admit(task: CommandTask): Window | undefined | 'wait' {
    const { pdu } = task;
    if (task.plan!.buffer === 0 || this.#admission.tryAdmit(task)) {
      task.state = 'receiving';
      return this.#receive(task);
    }
    if (pdu.dataLength === 0 && !task.unsolicited) {
      this.#admission.enqueue(task);
      return undefined;
    }
    // Data come unasked.
    if (!this.#needsData(task)) {
      this.#placing = task;
      this.#admission.enqueue(task);
      return 'wait';
    }
    task.stash = this.#host.stash.take(Math.min(task.dataOut, this.#parameters.firstBurstBytes));
    if (task.stash === undefined) {
      this.#unqueue(task);
      return this.#refuse(task, busy);
    }
    this.#admission.enqueue(task);
    return this.#receive(task);
  }

  /** Where immediate data go; without any the command goes on. */
  #receive(task: CommandTask): Window | undefined {
    if (task.pdu.dataLength > 0) return this.#dataOut.segment(task, task.pdu, 0);
    if (task.state === 'receiving') this.#dataOut.proceed(task);
    return undefined;
  }

  /** A command that waited has its buffer. */
  #granted(task: CommandTask): void {
    task.state = 'receiving';
    this.#dataOut.adopt(task);
    if (this.#placing === task) {
      this.#placing = undefined;
      this.#host.place(this.#receive(task));
    } else {
      this.#dataOut.proceed(task);
    }
  }

  /** There is no memory for it. */
  #denied(task: CommandTask, error: unknown): void {
    this.#unqueue(task);
    const result = check(senseOf(error, task.plan!.writes));
    if (this.#placing === task) {
      this.#placing = undefined;
      this.#refuse(task, result);
      this.#host.place(undefined);
      return;
    }
    task.dropStash();
    this.#answerRefused(task, result);
  }

  /** The command has ended before it began. Data that come with it, or are on their way, are dropped. */
  #refuse(task: CommandTask, result: Result): undefined {
    this.#host.metrics.commands.refused++;
    task.state = 'discarding';
    task.received += task.pdu.dataLength;
    if (task.pdu.dataLength === 0) this.#answerRefused(task, result);
    else this.#refused = { task, result };
    return undefined;
  }

  #answerRefused(task: CommandTask, result: Result): void {
    this.#refused = undefined;
    this.#answer(task, result);
    if (!task.unsolicited) return;
    // It stays until the last of its data is dropped: they name it.
    this.#remember(task);
    task.state = 'discarding';
  }

  #remember(task: CommandTask): void {
    this.#tasks.set(task.itt, task);
    this.#host.metrics.inFlight++;
  }

  // --- It runs, and is answered ---

  /** All that it needs is there. */
  #execute(task: CommandTask): void {
    if (this.#finishing) {
      this.#endAborted(task);
      return;
    }
    task.state = 'running';
    const turn = task.unit!.tasks.turn(task);
    const run = () => {
      if (task.aborted) return this.#endAborted(task);
      return task
        .unit!.run(task.nexus, task.plan!, task.buffer, task.signal)
        .then((result) => this.#ran(task, result))
        .catch((error: unknown) => this.#host.fail(error));
    };
    if (turn === undefined) void run();
    else void turn.then(run);
  }

  #ran(task: CommandTask, result: Result): void {
    this.#unqueue(task);
    if (task.aborted || this.#closed) {
      this.#endAborted(task);
      return;
    }
    const { metrics } = this.#host;
    const plan = task.plan!;
    if (result.status === Status.GOOD && plan.dataIn > 0) {
      metrics.bytesRead += plan.dataIn;
      this.#answer(task, result, task.buffer!.bytes);
      return;
    }
    if (plan.writes) metrics.bytesWritten += task.dataOut;
    this.#admission.release(task); // written data are the volume's now: others need not wait for this initiator to read
    this.#answer(task, result);
    this.#admission.pump();
  }

  #unqueue(task: CommandTask): void {
    if (!task.queued) return;
    task.queued = false;
    task.unit!.tasks.remove(task);
  }

  /** The end of a command: its data to the initiator, if any, then its status. */
  #answer(task: CommandTask, result: Result, data: Uint8Array | undefined = result.data): void {
    const { metrics } = this.#host;
    if (result.status !== Status.GOOD) metrics.errors++;
    const moved = task.buffer?.bytes.length ?? task.dataOut;
    // Out of the commands under way, but not its buffer, which may be on its way to the initiator.
    this.#drop(task);
    this.#answering++;
    this.#sender.answer(task, result, data, () => {
      this.#admission.release(task);
      this.#admission.earn(moved);
      this.#answering--;
      this.#admission.pump();
      this.#checkIdle();
    });
  }

  #drop(task: CommandTask): void {
    task.state = 'done';
    if (this.#tasks.get(task.itt) !== task) return;
    this.#tasks.delete(task.itt);
    this.#host.metrics.inFlight--;
  }

  // --- It ends otherwise ---

  /** ABORT TASK (RFC 7143, 11.5.1). False: there is no such command, or it is refused already. */
  async abort(itt: number): Promise<boolean> {
    const task = this.#tasks.get(itt);
    if (task === undefined || !task.queued) return false;
    await task.unit!.tasks.abort((other) => other === task);
    return true;
  }

  /** Takes no further one. What runs is answered, what waits for data or memory ends without an answer. */
  finish(): void {
    this.#finishing = true;
    this.#admission.end();
    this.#placing = undefined;
    this.#refused = undefined;
    for (const task of [...this.#tasks.values()]) if (task.state !== 'running') this.#endAborted(task);
  }

  /** After `finish`: nobody is there to be answered. What takes long stops. */
  close(): void {
    this.#closed = true;
    for (const task of [...this.#tasks.values()]) task.abort();
  }

  /** A Data-Out is not as it was asked for. */
  #broken(task: CommandTask): void {
    this.#unqueue(task);
    task.dropStash();
    this.#admission.forget(task);
    this.#admission.release(task);
    task.unsolicited = false;
    this.#answer(task, check(dataPhaseError));
  }

  /** Somebody aborts it: at once where nothing is done for it, else when that is over. */
  #aborted(task: CommandTask): void {
    if (task.state === 'running') return;
    this.#endAborted(task);
    if (task.receivesInto) this.#host.drop();
    if (this.#placing !== task) return;
    this.#placing = undefined;
    this.#host.place(undefined);
  }

  /** Ends it without an answer. */
  #endAborted(task: CommandTask): void {
    this.#unqueue(task);
    task.dropStash();
    this.#admission.forget(task);
    this.#admission.release(task);
    this.#forget(task);
    this.#admission.pump();
  }

  #forget(task: CommandTask): void {
    this.#drop(task);
    this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.isIdle) this.#host.idle();
  }

  /** Continues from outside of the receiver. */
  #run(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#host.fail(error);
    }
  }
}
