/** An ioctl server of a fake core in a process of its own: `node serve-fake-core.ts SOCKET`. Says `ready`, ends with its stdin. */
import { IoctlServer } from '../../../host/ioctl/server.ts';
import { FakeCore } from './fake-core.ts';

/** 0x5a00 answers with as much as there is room for, 0x5a01 not at all; what is above 256 KiB finds no room. */
const core = new FakeCore({
  23040: async ({ dstRoom }) => ({ dst: Buffer.alloc(dstRoom) }),
  23041: ({ interrupted }) => interrupted,
});
await IoctlServer.listen(core, process.argv[2]!, { bufferBytesMax: 1 });
process.stdout.write('ready\n');
process.stdin.resume().on('end', () => process.exit(0));
