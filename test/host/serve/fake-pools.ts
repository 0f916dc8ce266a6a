import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../../host/devices/open.ts';
import { readLabel } from '../../../host/serve/label.ts';
import type { ProgramResult, RunProgram } from '../../../host/serve/programs.ts';
import { mirrorLabel, writeLabel } from './labels.ts';

interface Dataset {
  readonly type: string;
  readonly properties: Record<string, string>;
}

interface Pool {
  readonly guid: string;
  imported: boolean;
  readonly devices: string[];
  readonly properties: Record<string, string>;
  readonly datasets: Record<string, Dataset>;
}

/**
 * `zpool` and `zfs` as far as converge uses them: pools are labels on real files, their content a JSON file beside them,
 * so that a second host finds what the first left.
 */
export class FakePools {
  readonly #state: string;
  readonly #log: string;
  #pools: Record<string, Pool>;
  /** Commands that fail, by their beginning, with what they say. */
  readonly failures = new Map<string, string>();
  /** Called at each change, with all volumes by name and size. */
  onVolumes: (volumes: ReadonlyMap<string, number>) => void = () => {};

  constructor(folder: string) {
    this.#state = join(folder, 'state.json');
    this.#log = join(folder, 'commands.log');
    this.#pools = existsSync(this.#state) ? JSON.parse(readFileSync(this.#state, 'utf8')) : {};
    // What a host that was killed had imported is not imported any more.
    for (const pool of Object.values(this.#pools)) pool.imported = false;
  }

  get commands(): string[] {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8').trim().split('\n') : [];
  }

  get imported(): string[] {
    return Object.keys(this.#pools).filter((name) => this.#pools[name]!.imported);
  }

  dataset(name: string): Dataset | undefined {
    return this.#pools[name.split('/')[0]!]?.datasets[name];
  }

  readonly run: RunProgram = async (program, args) => {
    const command = `${program} ${args.join(' ')}`;
    writeFileSync(this.#log, `${command}\n`, { flag: 'a' });
    for (const [start, message] of this.failures) if (command.startsWith(start)) return failed(message);
    const result = await this.#dispatch(program, [...args]);
    writeFileSync(this.#state, JSON.stringify(this.#pools, null, 1));
    this.#announce();
    return result;
  };

  #dispatch(program: string, args: string[]): Promise<ProgramResult> | ProgramResult {
    const verb = `${program} ${args.shift()}`;
    if (verb === 'zpool import') return this.#import(args);
    if (verb === 'zpool create') return this.#create(args);
    if (verb === 'zpool export') return this.#export(args);
    if (verb === 'zfs create') return this.#createVolume(args);
    if (verb === 'zpool get' || verb === 'zfs get') {
      // -o name,property,value PROPERTIES POOL...
      const [properties = '', ...pools] = args.slice(args.indexOf('-o') + 2);
      const targets = pools.flatMap((name): [string, Record<string, string>][] => {
        const pool = this.#pools[name]!;
        if (verb === 'zpool get') return [[name, pool.properties]];
        return Object.entries(pool.datasets).map(([dataset, { type, properties: own }]) => [dataset, { type, ...own }]);
      });
      return this.#get(targets, properties);
    }
    if (verb === 'zpool set' || verb === 'zfs set') {
      const [name, value] = args[0]!.split('=') as [string, string];
      const target = verb === 'zpool set' ? this.#pools[args[1]!] : this.dataset(args[1]!);
      target!.properties[name] = value;
      return ok();
    }
    return failed(`unknown: ${verb}`);
  }

  async #import(args: string[]): Promise<ProgramResult> {
    const guid = args.at(-1)!;
    const [name, pool] = Object.entries(this.#pools).find(([, candidate]) => candidate.guid === guid) ?? [];
    if (name === undefined || pool === undefined) return failed(`cannot import '${guid}': no such pool available`);
    pool.imported = true;
    for (const path of args.filter((_, i) => args[i - 1] === '-d')) {
      const device = await openDevice(path, { readOnly: true });
      if ((await readLabel(device))?.pool?.guid !== BigInt(guid)) return failed(`${path} is not of this pool`);
      await device.close();
    }
    return ok();
  }

  #create(args: string[]): ProgramResult {
    const devices = args.filter((word) => word.startsWith('/'));
    const name = args.find((word, i) => word !== '-o' && args[i - 1] !== '-o')!;
    const pool: Pool = {
      guid: String(100 + Object.keys(this.#pools).length),
      imported: true,
      devices,
      properties: {},
      datasets: {},
    };
    for (const [i, word] of args.entries()) if (args[i - 1] === '-o') assign(pool.properties, word);
    pool.datasets[name] = { type: 'filesystem', properties: {} };
    this.#pools[name] = pool;
    this.#label(name, 0n);
    return ok();
  }

  #label(name: string, state: bigint): void {
    const pool = this.#pools[name]!;
    const paths = new Map(pool.devices.map((path, i) => [BigInt(i + 1), path]));
    for (const [guid, path] of paths) {
      const fields = { name, poolGuid: BigInt(pool.guid), guid, state, paths };
      if (existsSync(path)) writeLabel(path, mirrorLabel(fields));
    }
  }

  #export(args: string[]): ProgramResult {
    for (const name of args[0] === '-a' ? this.imported : args) {
      this.#pools[name]!.imported = false;
      this.#label(name, 1n);
    }
    return ok();
  }

  #createVolume(args: string[]): ProgramResult {
    const name = args.at(-1)!;
    const pool = this.#pools[name.split('/')[0]!]!;
    const properties: Record<string, string> = { volsize: args[args.indexOf('-V') + 1]! };
    for (const [i, word] of args.entries()) if (args[i - 1] === '-o') assign(properties, word);
    pool.datasets[name] = { type: 'volume', properties };
    return ok();
  }

  #get(targets: readonly (readonly [string, Record<string, string>])[], names: string): ProgramResult {
    const lines = targets.flatMap(([target, values]) =>
      names.split(',').map((name) => `${target}\t${name}\t${values[name] ?? '-'}\n`),
    );
    return { code: 0, stdout: lines.join(''), stderr: '' };
  }

  #announce(): void {
    const volumes = new Map<string, number>();
    for (const pool of Object.values(this.#pools)) {
      if (!pool.imported) continue;
      for (const [name, { type, properties }] of Object.entries(pool.datasets)) {
        if (type === 'volume') volumes.set(name, Number(properties.volsize));
      }
    }
    this.onVolumes(volumes);
  }
}

function assign(properties: Record<string, string>, text: string): void {
  const at = text.indexOf('=');
  properties[text.slice(0, at)] = text.slice(at + 1);
}

function ok(): ProgramResult {
  return { code: 0, stdout: '', stderr: '' };
}

function failed(message: string): ProgramResult {
  return { code: 1, stdout: '', stderr: `${message}\n` };
}
