import { matchesGlob } from '../glob.ts';
import type { VolumeInfo, VolumeProvider } from '../volumes/volume.ts';
import { datasetsOf, prepareName, targetName } from './names.ts';

/** One logical unit of a configured target. */
export interface LunConfig {
  readonly volume: string;
  readonly readOnly?: boolean | undefined;
}

/** A target with logical units of one's choice. */
export interface TargetConfig {
  /** iSCSI name. */
  readonly name: string;
  /** By their number, 0 to 255. */
  readonly luns: ReadonlyMap<number, LunConfig>;
  /** Logical block, bytes. */
  readonly blockBytes: number;
}

/** Who may see what. */
export interface AllowRule {
  /** Pattern of iSCSI names of initiators. Default: all. */
  readonly initiator?: string | undefined;
  /** IP addresses, or a network such as `10.0.0.0/8`, as a list to look them up in. Default: all. */
  readonly addresses?: { readonly network: string; check(address: string): boolean } | undefined;
  /** Patterns of dataset names, or of names of configured targets. Default: all. */
  readonly targets?: readonly string[] | undefined;
}

/** Which targets one listener shows, to whom, and how. */
export interface TargetPolicy {
  /** Patterns of dataset names, `*` standing for anything. Default: all. */
  readonly exports?: readonly string[] | undefined;
  /** Nothing can be changed through this listener. */
  readonly readOnly?: boolean | undefined;
  /** Default: everybody may see everything. */
  readonly allow?: readonly AllowRule[] | undefined;
}

/** What all listeners have in common. */
export interface TargetOptions {
  readonly provider: VolumeProvider;
  /** Of the names of the volumes' own targets. */
  readonly prefix: string;
  /** Logical block of those, bytes. */
  readonly blockBytes: number;
  readonly targets: readonly TargetConfig[];
}

/** A target as an initiator sees it. */
export interface Target {
  /** iSCSI name. */
  readonly name: string;
  readonly blockBytes: number;
  readonly luns: ReadonlyMap<number, { readonly volume: string; readonly readOnly: boolean }>;
}

/** Who asks. */
export interface Initiator {
  readonly name: string;
  /** IP address. */
  readonly address: string;
}

/**
 * The targets of one listener: the configured ones, and one of its own for every volume that none of those has. A snapshot
 * has one of its own too, which is listed where the snapshot is.
 */
export class Targets {
  readonly #options: TargetOptions;
  readonly #policy: TargetPolicy;
  /** Volumes of configured targets. */
  readonly #taken: ReadonlySet<string>;

  constructor(options: TargetOptions, policy: TargetPolicy) {
    this.#options = options;
    this.#policy = policy;
    this.#taken = new Set(options.targets.flatMap(({ luns }) => [...luns.values()].map(({ volume }) => volume)));
  }

  /** What the initiator may log in to. */
  list(who: Initiator): string[] {
    const names: string[] = [];
    for (const config of this.#options.targets) {
      if (this.#showsConfigured(config) && this.#allows(who, config.name)) names.push(config.name);
    }
    for (const info of this.#options.provider.list()) {
      if (!this.#showsOwn(info.name) || !this.#allows(who, info.name)) continue;
      const name = targetName(this.#options.prefix, info.name);
      if (name !== undefined) names.push(name);
    }
    return names;
  }

  /** The target of that name; 'denied': there is one, but not for this initiator; 'awaited': there may be one soon. */
  async find(who: Initiator, name: string): Promise<Target | 'denied' | 'awaited' | undefined> {
    const config = this.#options.targets.find((candidate) => candidate.name === prepareName(name));
    if (config !== undefined && this.#showsConfigured(config)) {
      return this.#allows(who, config.name) ? this.#configured(config) : 'denied';
    }
    const { prefix, provider } = this.#options;
    let isAwaited = false;
    // As the name is, whatever its case; then as somebody typed it.
    for (const dataset of new Set([prepareName(name), name].flatMap((spelt) => datasetsOf(prefix, spelt)))) {
      if (!this.#showsOwn(dataset)) continue;
      const info = await this.#volume(dataset);
      if (info === undefined) {
        isAwaited ||= provider.awaits?.(dataset) === true && this.#allows(who, dataset);
        continue;
      }
      if (!this.#allows(who, dataset)) return 'denied';
      const readOnly = this.#policy.readOnly === true || info.readOnly;
      // However it was spelt: registrations go by the name.
      const canonical = targetName(prefix, dataset) ?? prepareName(name);
      return {
        name: canonical,
        blockBytes: this.#options.blockBytes,
        luns: new Map([[0, { volume: dataset, readOnly }]]),
      };
    }
    return isAwaited ? 'awaited' : undefined;
  }

  #configured(config: TargetConfig): Target {
    const luns = [...config.luns].map(
      ([lun, { volume, readOnly }]) =>
        [lun, { volume, readOnly: this.#policy.readOnly === true || readOnly === true }] as const,
    );
    return { name: config.name, blockBytes: config.blockBytes, luns: new Map(luns) };
  }

  /** A snapshot need not be listed to be meant. */
  async #volume(dataset: string): Promise<VolumeInfo | undefined> {
    const { provider } = this.#options;
    const listed = provider.find(dataset);
    if (listed !== undefined || !dataset.includes('@')) return listed;
    // Initiators can make up any name, and the provider keeps something of every pool that it is asked for.
    if (provider.find(dataset.slice(0, dataset.indexOf('@'))) === undefined) return undefined;
    await provider.reveal?.(dataset);
    return provider.find(dataset);
  }

  #showsOwn(dataset: string): boolean {
    return !this.#taken.has(dataset) && this.#exports(dataset);
  }

  /** A listener that does not show one of its volumes does not show the target. */
  #showsConfigured(config: TargetConfig): boolean {
    return [...config.luns.values()].every(({ volume }) => this.#exports(volume));
  }

  #exports(dataset: string): boolean {
    const { exports } = this.#policy;
    return exports === undefined || exports.some((pattern) => matchesGlob(dataset, pattern));
  }

  #allows(who: Initiator, what: string): boolean {
    const { allow } = this.#policy;
    if (allow === undefined) return true;
    return allow.some(
      ({ initiator, addresses, targets }) =>
        (initiator === undefined || matchesGlob(who.name, initiator)) &&
        (addresses === undefined || addresses.check(who.address)) &&
        (targets === undefined || targets.some((pattern) => matchesGlob(what, pattern))),
    );
  }
}
