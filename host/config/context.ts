import type { KeyPath, Problem } from './problem.ts';

/** What reading a configuration needs besides its values. */
export interface SemanticContext {
  /** Relative paths are relative to it. */
  readonly directory: string;
  /** The socket when the configuration names none; undefined when there is no runtime directory. */
  readonly defaultSocket: string | undefined;
  /** Notes something that is wrong. */
  report(path: KeyPath, at: 'key' | 'value', message: string): void;
  /** Where the value at a path stands, for messages that name two places, or come later. */
  place(path: KeyPath): Pick<Problem, 'line' | 'column' | 'key'>;
}
