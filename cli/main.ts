import { isProgram } from './programs.ts';

/**
 * `zow`: decides between a program of upstream's and a command of ours, and loads only what that needs, for
 * `zow zpool status` has to answer as fast as `zpool status`.
 */
const args = process.argv.slice(2);
let next = 0;
let socket: string | undefined;
if (args[0] === '--socket') {
  socket = args[1];
  next = 2;
} else if (args[0]?.startsWith('--socket=') === true) {
  socket = args[0].slice('--socket='.length);
  next = 1;
}
const program = args[next];
if (isProgram(program) && socket !== '') {
  if (socket !== undefined) process.env.ZOW_SOCKET = socket;
  const { main } = await import('./run.ts');
  await main(program, args.slice(next + 1));
} else {
  const { main } = await import('./zow.ts');
  process.exitCode = await main(args);
  // What is still open (a core that a panic stopped, a client's connection) must not keep an ended host alive.
  process.exit();
}
