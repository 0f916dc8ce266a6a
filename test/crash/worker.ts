import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../../host/devices/faulty/faults.ts';
import { print } from '../../host/print.ts';
import { nativePrograms } from '../host/serve/native.ts';
import { Image, type State } from './images.ts';
import { interruptImport, judge } from './judge.ts';
import { disksOf, layouts } from './layouts.ts';
import type { Overlay } from './overlay.ts';
import { load } from './record.ts';

/** What a worker is to do, and what it answers, one message each. */
export interface Job {
  /** A saved recording. */
  readonly file: string;
  /** By moment. */
  readonly states: readonly State[];
  /** Disks acknowledge flushes that they have not done. */
  readonly lies: boolean;
  /** The pool is imported without replay of the intent log. */
  readonly withoutReplay: boolean;
  /** Every so many states zdb looks at what the import has left as well; 0: never. */
  readonly zdbEvery: number;
  /** Saves the disks of each state there. */
  readonly images?: string;
}

export interface Verdict {
  readonly state: State;
  /** What is wrong, a line each. */
  readonly losses: readonly string[];
  readonly zdb: boolean;
}

async function run(job: Job, answer: (verdict: Verdict) => void): Promise<void> {
  const recording = load(job.file);
  const images = disksOf(layouts[recording.layout]).map(
    (disk) => new Image(disk, recording.diskBytes, recording.events, { lies: job.lies }),
  );
  const pending: Promise<void>[] = [];
  for (const state of job.states) {
    const random = seededRandom(state.seed);
    let disks: ReadonlyMap<string, Overlay> = cutAll(images, state, random);
    if (state.twice && !job.withoutReplay) disks = await interruptImport(recording, disks, state.survival, random);
    if (job.images !== undefined) saveImages(disks, job.images);
    const losses = await judge(recording, disks, state.moment, { withoutReplay: job.withoutReplay });
    const zdb = job.zdbEvery > 0 && state.seed % job.zdbEvery === 0;
    // zdb -cc waits for seconds at its end.
    if (zdb) pending.push(verify(disks).then((more) => answer({ state, losses: [...losses, ...more], zdb })));
    else answer({ state, losses, zdb });
  }
  await Promise.all(pending);
}

function cutAll(images: readonly Image[], { moment, survival }: State, random: () => number): Map<string, Overlay> {
  const disks = new Map<string, Overlay>();
  for (const image of images) {
    image.advance(moment);
    disks.set(image.disk, image.cut(moment, survival, random));
  }
  return disks;
}

function saveImages(disks: ReadonlyMap<string, Overlay>, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, disk] of disks) disk.save(join(folder, name));
}

/** Has the natively built zdb verify every block and the space maps. */
async function verify(disks: ReadonlyMap<string, Overlay>): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'zow-zdb-'));
  try {
    saveImages(disks, folder);
    const { code, stdout, stderr } = await nativePrograms('')('zdb', ['-bcc', '-e', '-p', folder, 'tank']);
    const clean = code === 0 && /No leaks \(block sum matches space maps exactly\)/.test(stdout);
    return clean ? [] : [`zdb -> ${code}: ${stdout.slice(-2000)}${stderr.slice(-2000)}`];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

process.on('message', (job: Job) => {
  run(job, (verdict) => process.send!(verdict)).then(
    () => process.exit(0),
    (error: unknown) => {
      print(2, `${error instanceof Error ? error.stack : error}\n`);
      process.exit(1);
    },
  );
});
