import { once } from 'node:events';
import { log } from '../../host/log.ts';

/** The other process of log-stream.test.ts. */
const lines = Number(process.argv[2]);
for (let number = 0; number < lines; number++) log.info({ number, text: 'x'.repeat(900) }, 'a line');
process.stdout.write('written\n');
process.stdin.resume();
await once(process.stdin, 'end');
process.exit(0);
