import { type Device, isPending, type MaybePromise } from './device.ts';
import { type Call, DeviceWrapper } from './wrapper.ts';

type Trace = (fields: object, message: string) => void;

/** Logs every operation of a device with its range, result, time in microseconds, and whether it was answered at once. */
export class TracingDevice extends DeviceWrapper {
  readonly #trace: Trace;

  constructor(inner: Device, trace: Trace) {
    super(inner);
    this.#trace = trace;
  }

  protected override around<T>(call: Call, run: () => MaybePromise<T>): MaybePromise<T> {
    const start = performance.now();
    const end = (fields: object) => {
      const us = Math.round((performance.now() - start) * 1000);
      this.#trace({ device: this.name, offset: call.offset, length: call.length, us, ...fields }, call.operation);
    };
    const fail = (atOnce: boolean, error: unknown): never => {
      end({ atOnce, error: String(error) });
      throw error;
    };
    let result: MaybePromise<T>;
    try {
      result = run();
    } catch (error) {
      return fail(true, error);
    }
    if (!isPending(result)) {
      end({ atOnce: true, result });
      return result;
    }
    return result.then(
      (value) => {
        end({ atOnce: false, result: value });
        return value;
      },
      (error) => fail(false, error),
    );
  }
}
