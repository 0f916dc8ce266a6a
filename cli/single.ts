import { basename } from 'node:path';
import { SingleWord } from '../host/assets.ts';
import { isProgram } from './programs.ts';

/**
 * The one executable file: `zow`, and by the name that it is called with (a link) `zpool`, `zfs` and the others. Its own children are
 * this executable too, and say by their first argument what they are.
 */
const called = basename(process.argv0);
const [word, name = '', ...args] = process.argv.slice(2);
if (word === SingleWord.program) {
  const { main } = await import('./run.ts');
  await main(name, args);
} else if (word === SingleWord.engine) {
  const { main } = await import('../host/engine/main.ts');
  main();
} else if (isProgram(called)) {
  const { main } = await import('./run.ts');
  await main(called, process.argv.slice(2));
} else {
  await import('./main.ts');
}
