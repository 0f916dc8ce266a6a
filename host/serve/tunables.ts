import type { Config, TunableConfig } from '../config/config.ts';
import { ConfigError } from '../config/problem.ts';
import type { Core } from '../core/api.ts';
import { Errno } from '../errno.ts';
import { decodeTunables, type Tunable, tunableRefusal } from '../observe/tunables.ts';

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

/** What can be said of tunables that are to be set while the host runs, without setting them. @throws ConfigError */
export function checkTunables(
  known: readonly Tunable[],
  wanted: readonly TunableConfig[],
  file: string | undefined,
): void {
  const problems = wanted.flatMap(({ name, value, place }) => {
    const isWritable = known.some((tunable) => tunable.name === name && tunable.writable);
    if (isWritable) return [];
    const exists = known.some((tunable) => tunable.name === name);
    return [{ ...place, message: tunableRefusal(known, name, value, exists ? Errno.EACCES : Errno.ENOENT).message }];
  });
  if (problems.length > 0) throw new ConfigError(file ?? 'config', problems);
}
