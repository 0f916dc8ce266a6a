import type { Core, CorePanic, LoadCore } from '../../../host/core/api.ts';
import { FakeCore } from '../ioctl/fake-core.ts';
import { MemoryProvider } from '../volumes/memory.ts';
import { FakePools } from './fake-pools.ts';

/** A core without OpenZFS: its volumes are those of FakePools, in memory; a test can make it panic. */
export class TestCore extends FakeCore implements Core {
  readonly volumes = new MemoryProvider({ poolBytes: 8 << 20 });
  readonly refusedTunables = [];
  readonly #lost = Promise.withResolvers<CorePanic>();
  ended = false;

  get lost(): Promise<CorePanic> {
    return this.#lost.promise;
  }

  panic(panic: CorePanic): void {
    this.#lost.resolve(panic);
  }

  async close(): Promise<void> {
    this.ended = true;
  }
}

export interface FakeHost {
  readonly pools: FakePools;
  readonly core: TestCore;
  readonly loadCore: LoadCore;
  readonly programs: () => FakePools['run'];
}

/** What ZowHost needs in place of the real thing; pools are kept in `folder`. */
export function fakeHost(folder: string): FakeHost {
  const pools = new FakePools(folder);
  const core = new TestCore({});
  pools.onVolumes = (volumes) => {
    for (const name of core.volumes.volumes.keys()) if (!volumes.has(name)) core.volumes.destroy(name);
    for (const [name, size] of volumes) if (core.volumes.find(name) === undefined) core.volumes.add(name, size);
  };
  return { pools, core, loadCore: async () => core, programs: () => pools.run };
}
