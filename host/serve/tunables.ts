import type { Config } from '../config/config.ts';
import { ConfigError } from '../config/problem.ts';
import type { Core } from '../core/api.ts';
import { decodeTunables, tunableRefusal } from '../observe/tunables.ts';

/** What is wrong with the tunables of a configuration that `core` was started with, each at its line; undefined: nothing. */
export async function tunableProblems(config: Config, core: Core): Promise<ConfigError | undefined> {
  if (core.refusedTunables.length === 0) return undefined;
  const tunables = decodeTunables(await core.inspector.tunables());
  const problems = core.refusedTunables.map(({ name, value, errno }) => {
    const { place } = config.tunables.find((tunable) => tunable.name === name)!;
    return { ...place, message: tunableRefusal(tunables, name, value, errno).message };
  });
  return new ConfigError(config.file ?? 'config', problems);
}
