/** The control: a server that does nothing but answer, of the same Node and with the same priority as the host. */
import { createServer } from 'node:net';

createServer((socket) => {
  socket.on('data', (bytes) => socket.write(bytes));
  socket.on('error', () => socket.destroy());
}).listen(process.argv[2], () => process.send?.('listening'));
process.on('disconnect', () => process.exit());
