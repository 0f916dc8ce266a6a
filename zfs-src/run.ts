// Child processes of the build: awaited, and ended when the build is interrupted.
import { spawn } from 'node:child_process';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  /** Sees each chunk of stderr as it comes; stdout goes to the terminal then. */
  readonly onStderr?: (chunk: string) => void;
}

export interface RunResult {
  /** Exit status; null when a signal ended the process. */
  readonly status: number | null;
  /** stdout and stderr together; empty with `onStderr`. */
  readonly output: string;
}

/**
 * Runs `command` to its end. Rejects when it cannot be started, and, after the process has ended, when `signal` aborts (it then got
 * SIGTERM), so that whoever cleans up behind it finds it gone.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted();
    const child = spawn(command, args, {
      cwd: options.cwd,
      stdio: ['ignore', options.onStderr === undefined ? 'pipe' : 'inherit', 'pipe'],
    });
    let output = '';
    const stop = (): void => {
      child.kill('SIGTERM');
    };
    options.signal?.addEventListener('abort', stop);
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      if (options.onStderr === undefined) {
        output += chunk;
      } else {
        options.onStderr(chunk);
      }
    });
    child.on('error', (error) => {
      options.signal?.removeEventListener('abort', stop);
      reject(error);
    });
    child.on('close', (status) => {
      options.signal?.removeEventListener('abort', stop);
      if (options.signal?.aborted === true) {
        reject(options.signal.reason);
      } else {
        resolve({ status, output });
      }
    });
  });
}
