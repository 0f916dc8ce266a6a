import { Attribute } from './constants.ts';
import type { Nexus } from './nexus.ts';

/** A command of a task set, from its arrival to its end. */
export interface Task {
  readonly nexus: Nexus;
  readonly attribute: number;
  /** Ends it without a status; what the volume is doing for it may go on until `ended`. */
  abort(): void;
}

/**
 * The tasks of a logical unit, of all initiators (SAM-5, 8). SIMPLE ones run as they come. An ORDERED one waits for all
 * before it, and those after it wait for it; HEAD OF QUEUE waits for nobody.
 */
export class TaskSet {
  /** In order of arrival. */
  readonly #tasks = new Set<Task>();
  readonly #waiting = new Map<Task, () => void>();
  readonly #emptied: { readonly of: ReadonlySet<Task>; readonly done: () => void }[] = [];
  #ordered = 0;

  get size(): number {
    return this.#tasks.size;
  }

  add(task: Task): void {
    this.#tasks.add(task);
    if (task.attribute === Attribute.ORDERED) this.#ordered++;
  }

  /** Undefined: it may run. Else it resolves when it may, or when it is aborted. */
  turn(task: Task): Promise<void> | undefined {
    if (this.#ordered === 0 || this.#mayRun(task)) return undefined;
    return new Promise((resolve) => this.#waiting.set(task, resolve));
  }

  /** It is over: nothing of it runs any more. */
  remove(task: Task): void {
    if (!this.#tasks.delete(task)) throw new Error('a task ended twice');
    if (task.attribute === Attribute.ORDERED) this.#ordered--;
    this.#waiting.delete(task);
    for (const [waiting, resume] of this.#waiting) {
      if (!this.#mayRun(waiting)) continue;
      this.#waiting.delete(waiting);
      resume();
    }
    for (let i = this.#emptied.length - 1; i >= 0; i--) {
      const { of, done } = this.#emptied[i]!;
      if (this.#hasAny(of)) continue;
      this.#emptied.splice(i, 1);
      done();
    }
  }

  /** Aborts those that match; resolves with how many there were, when all of them are over. */
  async abort(matches: (task: Task) => boolean): Promise<number> {
    const victims = new Set([...this.#tasks].filter(matches));
    for (const task of victims) {
      task.abort();
      const resume = this.#waiting.get(task);
      this.#waiting.delete(task);
      resume?.();
    }
    if (this.#hasAny(victims)) await new Promise<void>((done) => this.#emptied.push({ of: victims, done }));
    return victims.size;
  }

  #hasAny(tasks: ReadonlySet<Task>): boolean {
    for (const task of tasks) if (this.#tasks.has(task)) return true;
    return false;
  }

  #mayRun(task: Task): boolean {
    if (task.attribute === Attribute.HEAD_OF_QUEUE) return true;
    for (const other of this.#tasks) {
      if (other === task) return true;
      if (task.attribute === Attribute.ORDERED || other.attribute === Attribute.ORDERED) return false;
    }
    return true;
  }
}
