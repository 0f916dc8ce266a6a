/** A login is refused: the initiator gets the status, the log the sentence, and the connection is closed. */
export class LoginError extends Error {
  override readonly name = 'LoginError';
  /** As in LoginStatus. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
