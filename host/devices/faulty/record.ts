import { Errno, ErrnoError } from '../../errno.ts';
import { type Device, isPending, type MaybePromise } from '../device.ts';
import { type Call, DeviceWrapper } from '../wrapper.ts';

/**
 * One change of a disk, or a flush, as it was seen from above. `issued` and `completed` are moments of one clock that all
 * disks of a Recorder share, and no two are equal: a flush covers the writes of its disk with `completed` before its own
 * `issued`. `completed` is undefined while it is in flight, and for good when it failed (`failed`): either way it may
 * or may not have reached the disk.
 */
export interface Recorded {
  readonly device: Device;
  readonly operation: 'write' | 'flush' | 'trim' | 'writeZeroes';
  readonly offset: number;
  /** Of a short write: what was transferred. */
  length: number;
  /** A copy of what was written; empty for the others. */
  readonly data: Uint8Array;
  readonly issued: number;
  completed: number | undefined;
  failed: boolean;
}

/** Records what happens to the disks of a pool, in one order, for the exploration of the states a crash could leave. */
export class Recorder {
  readonly events: Recorded[] = [];
  readonly #bytesMax: number;
  #bytes = 0;
  #clock = 0;

  /** `bytesMax` of data are kept; a write beyond fails with ENOMEM, for a record with holes would prove nothing. */
  constructor(bytesMax = 1024 ** 3) {
    this.#bytesMax = bytesMax;
  }

  /** The moment now: everything recorded so far is before it. */
  now(): number {
    return this.#clock++;
  }

  wrap(device: Device): Device {
    return new RecordingDevice(device, this);
  }

  begin(device: Device, operation: Recorded['operation'], offset: number, length: number, data: Uint8Array): Recorded {
    this.#bytes += data.byteLength;
    if (this.#bytes > this.#bytesMax) throw new ErrnoError(Errno.ENOMEM, 'the recorder is full');
    const issued = this.now();
    const event: Recorded = { device, operation, offset, length, data, issued, completed: undefined, failed: false };
    this.events.push(event);
    return event;
  }
}

const nothing = new Uint8Array(0);

class RecordingDevice extends DeviceWrapper {
  readonly #recorder: Recorder;

  constructor(inner: Device, recorder: Recorder) {
    super(inner);
    this.#recorder = recorder;
  }

  override write(buffer: Uint8Array, offset: number): MaybePromise<number> {
    const event = this.#recorder.begin(this.inner, 'write', offset, buffer.byteLength, Uint8Array.from(buffer));
    return this.#follow(event, () => this.inner.write(buffer, offset));
  }

  protected override around<T>({ operation, offset, length }: Call, run: () => MaybePromise<T>): MaybePromise<T> {
    if (operation === 'read') return run();
    return this.#follow(this.#recorder.begin(this.inner, operation, offset, length, nothing), run);
  }

  #follow<T>(event: Recorded, run: () => MaybePromise<T>): MaybePromise<T> {
    const done = (result: T): T => {
      if (typeof result === 'number') event.length = result;
      event.completed = this.#recorder.now();
      return result;
    };
    const fail = (error: unknown): never => {
      event.failed = true;
      throw error;
    };
    let result: MaybePromise<T>;
    try {
      result = run();
    } catch (error) {
      return fail(error);
    }
    return isPending(result) ? result.then(done, fail) : done(result);
  }
}
