/** Runs one of upstream's programs from the checkout: `node cli/program.ts zpool status`. */
import { main } from './run.ts';

const [program = '', ...args] = process.argv.slice(2);
await main(program, args);
