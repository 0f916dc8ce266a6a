import { Errno, ErrnoError } from '../errno.ts';
import type { BufferPool, VolumeHandle, VolumeInfo, VolumeProcess, VolumeProvider } from '../volumes/volume.ts';

/** What is known of pools by their names. */
interface Pools {
  /** The volumes of a pool's engine. */
  home(pool: string): VolumeProvider | undefined;
  /** It is on its way, or was lost and is expected back. */
  awaits(pool: string): boolean;
}

/** The volumes of all engines. */
export class MergedVolumes implements VolumeProvider {
  /** Bounds of one engine's; buffers are the engines' own. */
  readonly buffers: BufferPool;
  readonly #pools: Pools;
  readonly #providers = new Map<VolumeProvider, Set<string>>();
  readonly #all = new Map<string, { readonly info: VolumeInfo; readonly provider: VolumeProvider }>();

  constructor(buffers: BufferPool, pools: Pools) {
    this.buffers = buffers;
    this.#pools = pools;
  }

  add(provider: VolumeProvider): void {
    const names = new Set<string>();
    this.#providers.set(provider, names);
    provider.watch?.({
      set: (info) => {
        names.add(info.name);
        this.#all.set(info.name, { info, provider });
      },
      remove: (name) => this.#remove(provider, name),
    });
  }

  remove(provider: VolumeProvider): void {
    for (const name of [...(this.#providers.get(provider) ?? [])]) this.#remove(provider, name);
    this.#providers.delete(provider);
  }

  list(): readonly VolumeInfo[] {
    return [...this.#all.values()].map(({ info }) => info).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  find(name: string): VolumeInfo | undefined {
    return this.#all.get(name)?.info;
  }

  async reveal(name: string): Promise<VolumeInfo> {
    const provider = this.#pools.home(poolOf(name));
    if (provider?.reveal === undefined) throw new ErrnoError(Errno.ENOENT, `volume ${name}`);
    return provider.reveal(name);
  }

  /** A volume that is not there is looked for where its pool is. */
  processOf(name: string): VolumeProcess | undefined {
    const provider = this.#all.get(name)?.provider ?? this.#pools.home(poolOf(name));
    return provider?.processOf?.(name);
  }

  awaits(name: string): boolean {
    return this.#pools.awaits(poolOf(name));
  }

  buffersOf(name: string): BufferPool {
    return this.#all.get(name)?.provider.buffers ?? this.buffers;
  }

  open(name: string, options: { readonly readOnly: boolean }): Promise<VolumeHandle> {
    const provider = this.#all.get(name)?.provider;
    return provider?.open(name, options) ?? Promise.reject(new ErrnoError(Errno.ENOENT, `volume ${name}`));
  }

  #remove(provider: VolumeProvider, name: string): void {
    this.#providers.get(provider)?.delete(name);
    if (this.#all.get(name)?.provider === provider) this.#all.delete(name);
  }
}

function poolOf(volume: string): string {
  return volume.split(/[/@]/, 1)[0]!;
}
