import type { Config } from '../config/config.ts';
import { StartError } from './errors.ts';

/**
 * Which cores a host has. `processes`: each pool an engine of its own, in a process of its own (docs/architecture.md);
 * `one`: all pools have one core, in the host's process.
 */
export type Engines = 'one' | 'processes';

/** By ZOW_ENGINES. @throws StartError where that is neither. */
export function chosenEngines(): Engines {
  const word = process.env.ZOW_ENGINES || 'processes';
  if (word !== 'one' && word !== 'processes')
    throw new StartError([`ZOW_ENGINES is 'one' or 'processes', not '${word}'`]);
  return word;
}

/** What of a configuration is not to be had with them, one sentence each. */
export function engineProblems({ pools, targets, memoryBytes }: Config, engines: Engines): string[] {
  if (engines === 'one') {
    const own = pools.filter((pool) => pool.memoryBytes !== memoryBytes).map(({ name }) => name);
    return own.length === 0 ? [] : [`pools ${own.join(', ')}: memory of their own needs engines of their own`];
  }
  return targets.flatMap(({ name, luns }) => {
    const of = new Set([...luns.values()].map(({ volume }) => volume.split(/[/@]/, 1)[0]!));
    if (of.size < 2) return [];
    const named = [...of].join(' and ');
    return `targets: ${name} has volumes of the pools ${named}, each of which has an engine of its own; make a target of each, or use one engine for all (ZOW_ENGINES=one)`;
  });
}
