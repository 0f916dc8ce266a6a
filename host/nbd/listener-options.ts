import type { ListenerOptions } from '../net/listener.ts';
import type { ExportPolicy } from '../volumes/exports.ts';

/** Where the server listens, what it shows there, and to whom. */
export interface NbdListenerOptions extends ListenerOptions, ExportPolicy {
  /** As NbdLimits has it, which it replaces here. */
  readonly idleMs?: number | undefined;
}
