import { ErrnoError } from '../../host/errno.ts';
import { HostClient, HostUnreachableError } from '../../host/ioctl/client.ts';
import { ProtocolError } from '../../host/ioctl/protocol.ts';
import { NvlistError } from '../../host/nvlist/nvlist.ts';
import { print } from '../../host/print.ts';
import { ExitCode } from '../../host/serve/errors.ts';

/** Thrown to end a command whose reader has gone. */
class ReaderGone extends Error {}

/** Runs a command on the host that serves `socket`; the exit code. Whoever reads what it prints may go at any time. */
export async function withHost(socket: string | undefined, run: (host: HostClient) => Promise<void>): Promise<number> {
  try {
    using host = await HostClient.connect(socket, 'zow');
    await run(host);
  } catch (error) {
    if (error instanceof ReaderGone) return ExitCode.ok;
    const expected = [HostUnreachableError, ErrnoError, ProtocolError, NvlistError].some(
      (kind) => error instanceof kind,
    );
    if (!expected) throw error;
    print(2, `zow: ${(error as Error).message}\n`);
    return ExitCode.usage;
  }
  return ExitCode.ok;
}

/** Prints to whoever reads the command's output. */
export function show(text: string): void {
  if (!print(1, text)) throw new ReaderGone();
}
