import { assert } from '../assert.ts';
import { Errno, ErrnoError } from '../errno.ts';
import type { Share } from '../volumes/share.ts';
import { offer } from './negotiate.ts';
import type { CommandTask } from './task.ts';

/** What the admission of a session's commands asks of it, and tells it. */
export interface AdmissionHost {
  readonly limits: {
    readonly startBytes: number;
    readonly bytesPerSession: number;
    readonly commandsPerSession: number;
  };
  /** Where commands on a volume get their buffers. */
  shareOf(volume: string): Share;
  /** A command that waited has its buffer. */
  granted(task: CommandTask): void;
  /** It will not get one. */
  denied(task: CommandTask, error: unknown): void;
}

/**
 * Which commands of a session have buffers, in the order of their arrival. What all of them hold is bounded by a budget that
 * grows as the initiator takes their answers; one command that is larger runs alone.
 */
export class Admission {
  readonly #host: AdmissionHost;
  /** Commands that wait for their buffers, in order. */
  #pending: CommandTask[] = [];
  /** The first of them, while it asks the share. */
  #asking: { readonly task: CommandTask; readonly controller: AbortController } | undefined;
  #ended = false;
  #heldBytes = 0;
  #budgetBytes: number;

  constructor(host: AdmissionHost) {
    this.#host = host;
    this.#budgetBytes = Math.min(host.limits.startBytes, host.limits.bytesPerSession);
  }

  /** Bytes of the buffer pool that the session keeps from others. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** How many commands the session may have. */
  get window(): number {
    const { commandsPerSession } = this.#host.limits;
    return Math.max(1, Math.min(commandsPerSession, Math.floor(this.#budgetBytes / offer.firstBurstBytes)));
  }

  /** The initiator took an answer of so many bytes, or gave so many. */
  earn(bytes: number): void {
    this.#budgetBytes = Math.min(this.#budgetBytes + bytes, this.#host.limits.bytesPerSession);
  }

  /** Gives the command its buffer, where that is there at once, and it is its turn. */
  tryAdmit(task: CommandTask): boolean {
    const bytes = task.plan!.buffer;
    if (this.#pending.length > 0 || !this.#fits(bytes)) return false;
    const buffer = this.#shareOf(task).tryAcquire(bytes, this.#heldBytes > 0);
    if (buffer === undefined) return false;
    this.#hold(task, bytes);
    task.buffer = buffer;
    return true;
  }

  /** Has the command wait for its buffer: `granted` or `denied` of the host is its end, unless it is forgotten. */
  enqueue(task: CommandTask): void {
    this.#pending.push(task);
    this.pump();
  }

  /** Takes it out of those that wait. */
  forget(task: CommandTask): void {
    this.#pending = this.#pending.filter((other) => other !== task);
    if (this.#asking?.task !== task) return;
    const { controller } = this.#asking;
    this.#asking = undefined;
    this.#unhold(task);
    controller.abort(new ErrnoError(Errno.EINTR, 'the command is aborted'));
  }

  /** Nobody who waits gets anything any more. */
  end(): void {
    this.#ended = true;
  }

  /** The command does not need its buffer any more. */
  release(task: CommandTask): void {
    // First the count: who gets the buffer's memory depends on it.
    this.#unhold(task);
    const { buffer } = task;
    task.buffer = undefined;
    buffer?.release();
  }

  /** Gets the first that waits its buffer, and so on. To be called when something was released, or earned. */
  pump(): void {
    const [task] = this.#pending;
    if (task === undefined || this.#asking !== undefined || this.#ended) return;
    const bytes = task.plan!.buffer;
    if (!this.#fits(bytes)) return;
    const asking = { task, controller: new AbortController() };
    this.#asking = asking;
    this.#hold(task, bytes);
    this.#shareOf(task)
      .acquire(bytes, asking.controller.signal, () => this.#heldBytes > bytes)
      .then(
        (buffer) => {
          if (this.#asking !== asking) {
            buffer.release(); // it was forgotten meanwhile
            return;
          }
          this.#asked(task);
          task.buffer = buffer;
          this.#host.granted(task);
        },
        (error: unknown) => {
          if (this.#asking !== asking) return;
          this.#asked(task);
          this.#unhold(task);
          this.#host.denied(task, error);
        },
      )
      .finally(() => this.pump());
  }

  #asked(task: CommandTask): void {
    assert(this.#pending[0] === task, 'memory came for a command that is not the first');
    this.#asking = undefined;
    this.#pending.shift();
  }

  #shareOf(task: CommandTask): Share {
    return this.#host.shareOf(task.unit!.info.name);
  }

  #fits(bytes: number): boolean {
    return this.#heldBytes === 0 || this.#heldBytes + bytes <= this.#budgetBytes;
  }

  #hold(task: CommandTask, bytes: number): void {
    task.heldBytes = bytes;
    this.#heldBytes += bytes;
  }

  #unhold(task: CommandTask): void {
    this.#heldBytes -= task.heldBytes;
    assert(this.#heldBytes >= 0, 'a session holds less than nothing');
    task.heldBytes = 0;
  }
}
