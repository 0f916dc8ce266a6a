import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { NbdAddress } from '../../../../host/devices/nbd/address.ts';
import { NbdDisk, type NbdDiskOptions } from '../../../../host/devices/nbd/disk.ts';
import { createSparse } from '../../../../host/devices/sparse.ts';
import { scratch } from '../disks.ts';

/** An NBD server of somebody else's, on a file, which can be stopped and started. */
export interface Server {
  readonly address: NbdAddress;
  readonly folder: string;
  readonly image: string;
  readonly child: ChildProcess;
  kill(signal: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  remove(): Promise<void>;
}

type Command = (image: string, socket: string) => readonly [string, ...string[]];

export const nbdkit =
  (...options: string[]): Command =>
  (image, socket) => ['nbdkit', '-f', '--exit-with-parent', '-U', socket, ...options, 'file', image];

export const qemuNbd: Command = (image, socket) => [
  'qemu-nbd',
  ...['--persistent', '--shared=16', '--format=raw', '--discard=unmap', '--detect-zeroes=off'],
  ...['--socket', socket, '--export-name', 'disk', image],
];

/** Starts a server on a sparse file of so many bytes. */
export async function serveFile(command: Command, bytes: number): Promise<Server> {
  const folder = scratch();
  const image = path.join(folder, 'disk.img');
  const socket = path.join(folder, 'nbd.sock');
  createSparse(image, bytes);
  let child: ChildProcess | undefined;
  const kill = async (signal: NodeJS.Signals) => {
    if (child === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    child.once('exit', () => resolve());
    child.kill(signal);
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await promise;
  };
  const start = async () => {
    fs.rmSync(socket, { force: true });
    const [program, ...args] = command(image, socket);
    child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await answers(socket);
  };
  await start();
  return {
    address: { kind: 'unix', path: socket, exportName: 'disk' },
    folder,
    image,
    get child() {
      return child!;
    },
    kill,
    start,
    remove: async () => {
      await kill('SIGKILL');
      fs.rmSync(folder, { recursive: true });
    },
  };
}

async function answers(socket: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const isThere = await new Promise<boolean>((resolve) => {
      const connection = net.connect(socket);
      connection.once('error', () => resolve(false));
      connection.once('data', () => {
        connection.destroy();
        resolve(true);
      });
    });
    if (isThere) return;
    if (tries > 600) throw new Error(`nobody answers at ${socket}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A disk with times for a loaded machine, that has made its first try. */
export async function connected(address: NbdAddress, options: Partial<NbdDiskOptions> = {}): Promise<NbdDisk> {
  const disk = new NbdDisk({
    name: '/dev/zow/test',
    address,
    ioTimeoutMs: 30_000,
    connectTimeoutMs: 30_000,
    ...options,
  });
  await disk.start();
  return disk;
}
