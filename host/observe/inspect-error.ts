import { ErrnoError } from '../errno.ts';

/** A kstat or a tunable that is not there, or does not do what was asked; `message` is a sentence for a person. */
export class InspectError extends ErrnoError {
  constructor(errno: number, message: string) {
    super(errno);
    this.message = message;
    this.name = 'InspectError';
  }
}
