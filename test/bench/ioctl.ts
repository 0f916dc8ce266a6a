// Measures the ioctl transport: the native client against the server in this process, with a core that does nothing.
//   node test/bench/ioctl.ts
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IoctlServer } from '../../host/ioctl/server.ts';
import { FakeCore } from '../host/ioctl/fake-core.ts';
import { compileNative } from '../native.ts';

const send = 0x5a1c;
const receive = 0x5a1b;
const echo = 0x5a70;
const ioctls = 20_000;
const streamBytes = 2 * 1024 ** 3;
const fdOut = 1;
const fdIn = 0;

const directory = mkdtempSync(join(tmpdir(), 'zow-bench-'));
const driver = join(directory, 'driver');
const socket = join(directory, 'zow.sock');
compileNative('test/cli/client-driver.c', driver);

let recordBytes = 0;
const core = new FakeCore({
  [echo]: async () => ({}),
  [send]: async ({ streams }) => {
    const record = new Uint8Array(new SharedArrayBuffer(recordBytes));
    for (let sent = 0; sent < streamBytes; sent += recordBytes) await streams.write(fdOut, record);
    await streams.drain();
    return {};
  },
  [receive]: async ({ streams }) => {
    const record = new Uint8Array(new SharedArrayBuffer(recordBytes));
    for (let got = 0; got < streamBytes; ) got += await streams.read(fdIn, record);
    return {};
  },
});
const server = await IoctlServer.listen(core, socket);

/** Seconds the driver takes for a command. */
async function time(...args: string[]): Promise<number> {
  const stdio = [openSync('/dev/zero', 'r'), openSync('/dev/null', 'w'), 'inherit'] as const;
  const began = performance.now();
  const child = spawn(driver, args, { env: { ...process.env, ZOW_SOCKET: socket }, stdio: [...stdio] });
  const [status] = await once(child, 'exit');
  if (status !== 0) throw new Error(`${args.join(' ')}: errno ${status}`);
  return (performance.now() - began) / 1000;
}

const seconds = await time('repeat', String(ioctls));
process.stdout.write(`ioctl round trip      ${((seconds / ioctls) * 1e6).toFixed(0)} us\n`);
for (const [name, command] of [
  ['write', 'send'],
  ['read', 'receive'],
]) {
  for (recordBytes of [16 * 1024, 128 * 1024, 1024 * 1024]) {
    const mb = streamBytes / 1e6 / (await time(command!));
    process.stdout.write(
      `stream ${name!.padEnd(5)} ${String(recordBytes / 1024).padStart(5)}K  ${mb.toFixed(0)} MB/s\n`,
    );
  }
}
await server.close('done');
rmSync(directory, { recursive: true });
