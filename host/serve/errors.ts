import type { CorePanic } from '../core/api.ts';

/** Exit codes of `zow`; docs/config.md lists them. Programs (`zow zpool …`) exit with their own. */
export const ExitCode = {
  ok: 0,
  /** A wrong command line or configuration. */
  usage: 1,
  /** A pool, a device or a listener could not be started, or a pool could not be exported. */
  failed: 2,
  /** EX_SOFTWARE: the core is lost. */
  panic: 70,
  /** A second signal: ended at once, as a crash would. */
  killed: 130,
} as const;

/** The host could not start: one line a reason, for the user. */
export class StartError extends Error {
  readonly reasons: readonly string[];

  constructor(reasons: readonly string[], options?: ErrorOptions) {
    super(reasons.join('\n'), options);
    this.name = 'StartError';
    this.reasons = reasons;
  }
}

/** The core ended while something was waited for. */
export class CoreLostError extends StartError {
  readonly panic: CorePanic;

  constructor(panic: CorePanic) {
    super([describePanic(panic)]);
    this.name = 'CoreLostError';
    this.panic = panic;
  }
}

/** `panic in pool tank, fiber z_wr_iss: VERIFY(…) failed, dbuf.c:123`. */
export function describePanic(panic: CorePanic): string {
  const pool = panic.pool === undefined ? '' : ` in pool ${panic.pool}`;
  const fiber = panic.fiber === undefined ? '' : `${pool === '' ? ' in' : ','} fiber ${panic.fiber}`;
  const place = panic.file === undefined ? '' : `, ${panic.file}${panic.line === undefined ? '' : `:${panic.line}`}`;
  return `panic${pool}${fiber}: ${panic.message}${place}`;
}
