import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import { Op } from '../../host/scsi/constants.ts';
import { cdb10, cdb16, Initiator } from '../host/iscsi/client.ts';
import type { Client } from '../host/nbd/client.ts';
import type { Lab } from './host.ts';

/** A volume as a client of one protocol uses it. Everything rejects when the server is gone, or says that it failed. */
export interface Front {
  /** Writes all at once; `acknowledged` is called for each offset as its answer comes. */
  write(blocks: ReadonlyMap<number, Buffer>, fua: boolean, acknowledged: (offset: number) => void): Promise<void>;
  flush(): Promise<void>;
  read(offset: number, length: number): Promise<Buffer>;
  destroy(): void;
}

export type FrontName = 'nbd' | 'iscsi';

export async function openFront(lab: Lab, name: FrontName, volume: string): Promise<Front> {
  if (name === 'nbd') return new NbdFront(await lab.open(volume));
  const target = `iqn.2026-11.io.zow:${volume.replaceAll('/', ':')}`;
  const initiator = await Initiator.open(lab.iscsiAddress, target);
  await initiator.settle();
  return new IscsiFront(initiator);
}

class NbdFront implements Front {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  async write(
    blocks: ReadonlyMap<number, Buffer>,
    fua: boolean,
    acknowledged: (offset: number) => void,
  ): Promise<void> {
    const waiting = new Map<bigint, number>();
    for (const [offset, payload] of blocks) {
      const flags = fua ? CmdFlag.FUA : 0;
      const request = { type: Cmd.WRITE, flags, offset, length: payload.length, payload };
      waiting.set(this.#client.sendRequest(request), offset);
    }
    while (waiting.size > 0) {
      const reply = await this.#client.reply(0);
      if (reply.errno !== 0) throw new Error(`write: ${reply.errno}`);
      acknowledged(waiting.get(reply.cookie)!);
      waiting.delete(reply.cookie);
    }
  }

  async flush(): Promise<void> {
    const reply = await this.#client.request({ type: Cmd.FLUSH });
    if (reply.errno !== 0) throw new Error(`flush: ${reply.errno}`);
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#client.readAt(offset, length);
  }

  destroy(): void {
    this.#client.destroy();
  }
}

class IscsiFront implements Front {
  readonly #initiator: Initiator;

  constructor(initiator: Initiator) {
    this.#initiator = initiator;
  }

  async write(
    blocks: ReadonlyMap<number, Buffer>,
    fua: boolean,
    acknowledged: (offset: number) => void,
  ): Promise<void> {
    const waiting = [...blocks].map(([offset, write]) => {
      const cdb = cdb16(Op.WRITE_16, offset / 512, write.length / 512, fua ? 8 : 0);
      // Half of them give their data with the command.
      const immediate = (offset / write.length) % 2 === 0 ? write.length : 0;
      return { offset, write, itt: this.#initiator.sendCommand(cdb, { write, immediate }) };
    });
    for (const { offset, write, itt } of waiting) {
      const { status } = await this.#initiator.finish(itt, write);
      if (status !== 0) throw new Error(`write: ${status}`);
      acknowledged(offset);
    }
  }

  async flush(): Promise<void> {
    const { status } = await this.#initiator.command(cdb10(Op.SYNCHRONIZE_CACHE_10, 0, 0));
    if (status !== 0) throw new Error(`flush: ${status}`);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { status, data } = await this.#initiator.command(cdb16(Op.READ_16, offset / 512, length / 512), {
      read: length,
    });
    if (status !== 0) throw new Error(`read: ${status}`);
    return data;
  }

  destroy(): void {
    this.#initiator.destroy();
  }
}
