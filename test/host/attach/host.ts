import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KeptVolume, type KeptVolumeOptions } from '../../../host/attach/kept-volume.ts';
import { NbdServer } from '../../../host/nbd/server.ts';
import { quiet } from '../nbd/fixture.ts';
import { MemoryProvider, type MemoryVolume } from '../volumes/memory.ts';

/** A host with one volume in memory, whose crash takes back what was not flushed, as a power cut does from a disk's cache. */
export class CrashingHost {
  readonly volume: MemoryVolume;
  readonly #directory: string;
  readonly #provider: MemoryProvider;
  #server: NbdServer | undefined;
  #durable: Uint8Array;
  /** Requests that are being held are never answered: the host is as good as dead for them. */
  #held: (() => void)[] = [];
  /** Holds requests of these kinds until the crash. */
  holds: readonly string[] = [];

  private constructor(directory: string, sizeBytes: number) {
    this.#directory = directory;
    this.#provider = new MemoryProvider();
    this.volume = this.#provider.add('tank/vm0', sizeBytes, 4096);
    this.#durable = this.volume.data.slice();
    this.volume.hook = (operation) => {
      if (this.holds.includes(operation)) return new Promise((resolve) => this.#held.push(resolve));
      if (operation === 'flush') this.#durable = this.volume.data.slice();
      return undefined;
    };
  }

  static async open(t: ExecutionContext<unknown>, sizeBytes: number): Promise<CrashingHost> {
    const directory = await mkdtemp(join(tmpdir(), 'zow-attach-'));
    const host = new CrashingHost(directory, sizeBytes);
    await host.start();
    t.teardown(async () => {
      await host.crash();
      await rm(directory, { recursive: true });
    });
    return host;
  }

  get socket(): string {
    return join(this.#directory, 'nbd.sock');
  }

  async start(): Promise<void> {
    const listeners = [{ unix: this.socket }];
    this.#server = new NbdServer({ provider: this.#provider, listeners, limits: { shutdownMs: 20 }, log: quiet });
    await this.#server.start();
  }

  async crash(): Promise<void> {
    const kept = this.#durable;
    const closing = this.#server?.close();
    this.#server = undefined;
    // The connections are cut by now, whatever is held.
    setTimeout(() => this.#release(), 30);
    await closing;
    this.#release();
    this.volume.data = kept.slice();
    this.#durable = kept;
  }

  /** What is on its disk. */
  get durable(): Uint8Array {
    return this.#durable;
  }

  #release(): void {
    const held = this.#held;
    this.#held = [];
    for (const go of held) go();
  }

  /** Attaches it, until the end of the test. */
  async attach(t: ExecutionContext<unknown>, options: Partial<KeptVolumeOptions> = {}): Promise<KeptVolume> {
    const { info } = this.volume;
    const kept = await KeptVolume.open({
      ...{ info, name: info.name, guid: String(info.guid), sizeBytes: info.size, readOnly: false, waitMs: Infinity },
      ...{ log: quiet, address: { kind: 'unix', path: this.socket, exportName: info.name } },
      ...options,
    });
    t.teardown(() => kept.close());
    return kept;
  }
}
