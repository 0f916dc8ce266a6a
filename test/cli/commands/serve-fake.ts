/** `zow serve` with a fake core, as a process: `node serve-fake.ts FOLDER CONFIG [panic|slow]`. */
import { serve } from '../../../cli/commands/serve.ts';
import { fakeHost } from '../../host/serve/fake-host.ts';

const [folder = '', config = '', how] = process.argv.slice(2);
const { core, loadCore, programs, pools } = fakeHost(folder);
if (how === 'panic') {
  const panic = { message: 'VERIFY(0) failed', file: 'dbuf.c', line: 7, pool: 'tank', fiber: 'z_wr_iss' };
  process.on('SIGUSR2', () => core.panic(panic));
}
const run: typeof pools.run = async (program, args) => {
  if (how === 'slow' && args[0] === 'export') await new Promise(() => setTimeout(() => {}, 60_000));
  return pools.run(program, args);
};
process.exit(
  await serve(config, {
    ...{ engines: 'one', loadCore, hints: how === 'hints' },
    programs: how === 'slow' ? () => run : programs,
  }),
);
