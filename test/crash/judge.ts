import { basename } from 'node:path';
import type { Core } from '../../host/core/api.ts';
import { loadCore } from '../../host/core/load.ts';
import type { Device } from '../../host/devices/device.ts';
import { Recorder } from '../../host/devices/faulty/record.ts';
import { Errno, ErrnoError } from '../../host/errno.ts';
import { blockBytes, versionOf } from './block.ts';
import { cutAgain, type Survival } from './images.ts';
import { failingOf, layouts } from './layouts.ts';
import { type Overlay, OverlayDevice } from './overlay.ts';
import { Admin } from './pool.ts';
import { type Existence, Expectation, type VolumePromises } from './promises.ts';
import { eventsOf, type Recording } from './record.ts';

const memoryBytes = 192 * 1024 ** 2;
/** More of one state say nothing new. */
const lossesMax = 20;

export interface JudgeOptions {
  /** Import without replay of the intent log, which must lose what only the log had. */
  readonly withoutReplay?: boolean;
}

/**
 * Imports the pool from its disks in a core of its own, as the host does after a power cut at `moment`, and compares what
 * is there with what was promised. Returns what is wrong, a line each.
 */
export async function judge(
  recording: Recording,
  disks: ReadonlyMap<string, Overlay>,
  moment: number,
  { withoutReplay = false }: JudgeOptions = {},
): Promise<string[]> {
  const core = await start(disks);
  const lost = core.lost.then((panic) => [`the core ended: ${panic.message}`]);
  try {
    return await Promise.race([lost, judgeIn(core, recording, moment, withoutReplay)]);
  } finally {
    await core.close();
  }
}

/** A core that finds the disks by their paths' last parts. */
function start(disks: ReadonlyMap<string, Overlay>, wrap = (device: Device): Device => device): Promise<Core> {
  return loadCore({
    memoryBytes,
    openDevice: async (path, { readOnly = false } = {}) => {
      const content = disks.get(basename(path));
      if (content === undefined) throw new ErrnoError(Errno.ENOENT, path);
      return wrap(new OverlayDevice(path, content, readOnly));
    },
  });
}

/** The disks after another power cut, at any moment of the import. They stay as they are when it fails. */
export async function interruptImport(
  recording: Recording,
  disks: ReadonlyMap<string, Overlay>,
  survival: Survival,
  random: () => number,
): Promise<ReadonlyMap<string, Overlay>> {
  const recorder = new Recorder();
  const changed = new Map([...disks].map(([name, disk]) => [name, disk.clone()]));
  const core = await start(changed, (device) => recorder.wrap(device));
  const { parent, encrypted } = layouts[recording.layout];
  try {
    const admin = await Admin.open(core);
    await admin.import('tank', recording.config);
    if (encrypted) await admin.loadKey(parent, recording.key);
  } catch {
    // The judge will say so.
    return disks;
  } finally {
    await core.close();
  }
  const moment = Math.floor(random() * recorder.now()) + 0.5;
  const events = eventsOf(recorder);
  return new Map(
    [...disks].map(([name, disk]) => {
      const own = events.filter((event) => event.disk === name);
      return [name, cutAgain(disk, own, moment, survival, random)];
    }),
  );
}

async function judgeIn(core: Core, recording: Recording, moment: number, readOnly: boolean): Promise<string[]> {
  const { parent, encrypted } = layouts[recording.layout];
  const { volumes, datasets } = recording.promises;
  const wrong: string[] = [];
  const admin = await Admin.open(core);
  try {
    await admin.import('tank', recording.config, { readOnly });
    if (encrypted) await admin.loadKey(parent, recording.key);
  } catch (error) {
    return [`the pool cannot be imported: ${(error as Error).message}`];
  }
  for (const dataset of datasets) {
    const there = await admin.exists(dataset.name);
    const contradiction = existence(dataset, there, moment);
    if (contradiction !== undefined) wrong.push(`${dataset.name} ${contradiction}`);
    if (!there) continue;
    const volume = volumes.find(({ name }) => name === (dataset.of ?? dataset.name))!;
    const expected =
      dataset.of === undefined
        ? Expectation.at(moment, volume, recording.promises)
        : Expectation.in(
            { ...dataset.created, acked: Math.min(moment, dataset.created.acked ?? moment) },
            volume,
            recording.promises,
          );
    wrong.push(...(await contents(core, dataset.name, volume, expected)));
  }
  if (!readOnly) {
    const { errors, known, repairedBytes, vdevErrors } = await admin.scrub('tank');
    // What a disk forgot is in its DTL with the next txg; until then only checksums know.
    const mendable = failingOf(recording.layout)?.redundant === true;
    if (errors + known > 0 || (!mendable && repairedBytes + vdevErrors > 0))
      wrong.push(
        `the scrub found ${errors} errors, repaired ${repairedBytes} bytes; the pool knows ${known}, its vdevs count ${vdevErrors}`,
      );
  }
  return wrong;
}

/** Created and destroyed are promises too: both are in a txg that is on the disks when the program has ended. */
function existence({ created, destroyed }: Existence, there: boolean, moment: number): string | undefined {
  if (there && created.issued > moment) return 'was never made';
  if (there && (destroyed?.acked ?? moment) < moment) return 'was destroyed and is there';
  const wanted = (created.acked ?? moment) < moment && (destroyed?.issued ?? moment) >= moment;
  return wanted && !there ? 'is gone' : undefined;
}

async function contents(core: Core, name: string, volume: VolumePromises, expected: Expectation): Promise<string[]> {
  await core.volumes.reveal?.(name).catch(() => undefined);
  if (core.volumes.find(name) === undefined) return [`${name} is no volume that can be opened`];
  const handle = await core.volumes.open(name, { readOnly: true });
  const buffer = await core.volumes.buffers.acquire(volume.blocks * blockBytes);
  const wrong: string[] = [];
  try {
    await handle.read(0, buffer);
    for (let block = 0; block < volume.blocks && wrong.length < lossesMax; block++) {
      const content = buffer.bytes.subarray(block * blockBytes, (block + 1) * blockBytes);
      const contradiction = expected.contradiction(block, versionOf(content, block));
      if (contradiction !== undefined) wrong.push(`${name}: block ${block} ${contradiction}`);
    }
  } catch (error) {
    wrong.push(`${name} cannot be read: ${(error as Error).message}`);
  } finally {
    buffer.release();
    await handle.close();
  }
  return wrong;
}
