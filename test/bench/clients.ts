/**
 * Many clients at once: connections × depth requests of mixed sizes against a volume of a real host, and what that costs
 * it in memory. Clients that never read their replies can be added.
 *
 *   node test/bench/clients.ts [--connections 64] [--depth 32] [--seconds 10] [--memory 1G] [--sizes 4096,1048576]
 *                              [--deaf 0]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Cmd } from '../../host/protocols/nbd.ts';
import { errorsOf, load } from '../e2e/load.ts';
import { Client } from '../host/nbd/client.ts';
import { residentMiB } from './processes.ts';

const volumeBytes = 1 << 30;

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '64' },
    depth: { type: 'string', default: '32' },
    seconds: { type: 'string', default: '10' },
    memory: { type: 'string', default: '1G' },
    sizes: { type: 'string', default: '4096,16384,131072,1048576' },
    deaf: { type: 'string', default: '0' },
  },
});
const connections = Number(values.connections);
const depth = Number(values.depth);
const sizes = values.sizes.split(',').map(Number);

async function started(host: ChildProcess, socket: string): Promise<void> {
  for (let i = 0; i < 3000 && host.exitCode === null; i++) {
    if (existsSync(socket)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the host did not start');
}

mkdirSync('build', { recursive: true });
const folder = path.resolve(mkdtempSync('build/bench-'));
const socket = path.join(folder, 'nbd');
const pool = { vdevs: ['disk.img'], create: { size: '4G' }, volumes: { v: { size: `${volumeBytes}` } } };
const config = { socket: 's', memory: values.memory, pools: { tank: pool }, nbd: [{ unix: socket }] };
writeFileSync(path.join(folder, 'pool.json'), JSON.stringify(config));
const main = path.join(import.meta.dirname, '../../cli/main.ts');
const host = spawn(process.execPath, [main, 'serve', path.join(folder, 'pool.json')], {
  stdio: ['ignore', 'ignore', 'inherit'],
  env: { ...process.env, ZOW_LOG: process.env.ZOW_LOG ?? 'warn' },
});
const ended = new Promise((resolve) => host.once('exit', resolve));
try {
  await started(host, socket);
  const say = (what: string) =>
    process.stdout.write(
      `${what.padEnd(24)}RSS ${residentMiB(host.pid!, 'VmRSS').toFixed(0)} MiB, highest ${residentMiB(host.pid!, 'VmHWM').toFixed(0)} MiB\n`,
    );
  say('started');
  for (let i = 0; i < Number(values.deaf); i++) {
    const client = await Client.open({ unix: socket }, 'tank/v', 'structured');
    client.socket.pause();
    for (let n = 0; n < depth; n++) client.sendRequest({ type: Cmd.READ, offset: 0, length: Math.max(...sizes) });
  }
  const start = Date.now();
  const tally = await load({
    address: { unix: socket },
    volume: 'tank/v',
    volumeBytes,
    connections,
    depth,
    sizes,
    seconds: Number(values.seconds),
  });
  const took = (Date.now() - start) / 1000;
  say('under load');
  const rate = (tally.bytes / 2 ** 20 / took).toFixed(0);
  process.stdout.write(`${tally.requests} requests, ${rate} MiB/s, errors: ${errorsOf(tally)}\n`);
} finally {
  host.kill('SIGTERM');
  await ended;
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
