import type { ChildProcess, SendHandle } from 'node:child_process';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import type { EngineEvent, Operations } from './messages.ts';

type Operation = keyof Operations;

interface CallMessage {
  readonly call: number;
  readonly operation: Operation;
  readonly argument: unknown;
}

interface AnswerMessage {
  readonly answer: number;
  readonly value?: unknown;
  readonly errno?: number;
  readonly message?: string;
}

interface EventMessage {
  readonly event: EngineEvent;
}

type Message = CallMessage | AnswerMessage | EventMessage;

/** The other process, as child_process has it on both sides. */
type Port = Pick<ChildProcess, 'on' | 'send'>;

/** The supervisor's end: calls operations of an engine, and hears its events. */
export class CallerEnd {
  readonly #port: Port;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #last = 0;
  #broken: Error | undefined;

  constructor(port: Port, onEvent: (event: EngineEvent) => void) {
    this.#port = port;
    port.on('message', (raw) => {
      const message = raw as Message;
      if ('event' in message) onEvent(message.event);
      else if ('answer' in message) this.#answered(message);
    });
  }

  /** Rejects with the engine's ErrnoError, or with the reason given to `fail`. */
  call<O extends Operation>(
    operation: O,
    argument: Operations[O]['argument'],
    handle?: SendHandle,
  ): Promise<Operations[O]['value']> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const waiter = Promise.withResolvers<unknown>();
    const call = ++this.#last;
    this.#waiting.set(call, waiter);
    const message: CallMessage = { call, operation, argument };
    // What cannot be sent is not answered: the engine's end tells, by `fail`.
    this.#port.send(message, handle, {}, () => undefined);
    return waiter.promise as Promise<Operations[O]['value']>;
  }

  /** The engine is gone: what waits fails, and so does every later call. */
  fail(error: Error): void {
    this.#broken ??= error;
    for (const waiter of this.#waiting.values()) waiter.reject(error);
    this.#waiting.clear();
  }

  #answered({ answer, value, errno, message }: AnswerMessage): void {
    const waiter = this.#waiting.get(answer);
    this.#waiting.delete(answer);
    if (errno === undefined) waiter?.resolve(value);
    else waiter?.reject(new CrossedError(errno, message ?? ''));
  }
}

/** An ErrnoError that crossed: its message as it was. */
export class CrossedError extends ErrnoError {
  constructor(errno: number, message: string) {
    super(errno);
    this.message = message;
  }
}

export type Handlers = {
  readonly [O in Operation]: (
    argument: Operations[O]['argument'],
    handle: unknown,
  ) => Promise<Operations[O]['value']> | Operations[O]['value'];
};

/** The engine's end: answers calls, and tells events. */
export function answerCalls(port: NodeJS.Process, handlers: Handlers): (event: EngineEvent) => void {
  const send = (message: Message): void => {
    port.send?.(message);
  };
  port.on('message', (raw, handle) => {
    const message = raw as Message;
    if (!('call' in message)) return;
    const { call: answer, operation, argument } = message;
    const handler = handlers[operation] as ((argument: unknown, handle: unknown) => unknown) | undefined;
    Promise.resolve()
      .then(() => {
        if (handler === undefined) throw new ErrnoError(Errno.ENOSYS, operation);
        return handler(argument, handle);
      })
      .then(
        (value) => send({ answer, value }),
        (error: unknown) => {
          send({ answer, errno: errnoOf(error), message: error instanceof Error ? error.message : String(error) });
        },
      );
  });
  return (event) => send({ event });
}
