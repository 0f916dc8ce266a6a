/**
 * The control: a server that does nothing but answer, each time by way of one of libuv's threads, of which it has as many as
 * the host; of the same Node and with the same priority.
 */
import { stat } from 'node:fs';
import { createServer } from 'node:net';
import { makeThreads } from '../../host/devices/threads.ts';

makeThreads();
createServer((socket) => {
  socket.on('data', (bytes) => stat('/', () => socket.write(bytes)));
  socket.on('error', () => socket.destroy());
}).listen(process.argv[2], () => process.send?.('listening'));
process.on('disconnect', () => process.exit());
