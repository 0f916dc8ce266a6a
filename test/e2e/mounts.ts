import { join } from 'node:path';
import { execute, type Lab, must } from './host.ts';

/** A file system on a volume, seen by the kernel: nbdfuse makes the volume a file, a loop device mounts it. */
export interface FileSystem {
  readonly mkfs: readonly string[];
  /** Must find nothing wrong, and change nothing. */
  readonly check: readonly string[];
}

export const ext4: FileSystem = { mkfs: ['mkfs.ext4', '-q', '-F'], check: ['e2fsck', '-f', '-n'] };
export const xfs: FileSystem = { mkfs: ['mkfs.xfs', '-q', '-f'], check: ['xfs_repair', '-n'] };

/** This machine cannot do it. */
export class CannotMount extends Error {}

/** A volume as a file, until `leave`. */
export class VolumeFile {
  readonly file: string;
  readonly folder: string;
  readonly #fuse: string;

  private constructor(fuse: string, folder: string) {
    this.#fuse = fuse;
    this.folder = folder;
    this.file = join(fuse, 'disk');
  }

  /** @throws CannotMount where there is no FUSE. */
  static async open(lab: Lab, volume: string): Promise<VolumeFile> {
    const fuse = join(lab.directory, 'fuse');
    const folder = join(lab.directory, 'mount');
    const started = await lab.shell(`
      mkdir -p ${fuse} ${folder}; rm -f nbdfuse.pid
      nbdfuse -P nbdfuse.pid ${fuse}/disk '${lab.uri(volume)}' >nbdfuse.err 2>&1 &
      for i in $(seq 300); do [ -s nbdfuse.pid ] && exit 0; sleep 0.1; done
      cat nbdfuse.err; exit 77`);
    if (started.code === 77) throw new CannotMount(`no FUSE here: ${started.stdout}`);
    return new VolumeFile(fuse, folder);
  }

  async run([program, ...args]: readonly string[]): Promise<void> {
    await must(program!, [...args, this.file]);
  }

  /** @throws CannotMount where there is no loop device, or no such file system. */
  async mount(): Promise<void> {
    const { code, stderr } = await execute('mount', ['-o', 'loop', this.file, this.folder]);
    if (code !== 0) throw new CannotMount(`no loop mount here: ${stderr}`);
  }

  async unmount(): Promise<void> {
    await must('umount', [this.folder]);
  }

  async leave(): Promise<void> {
    await must('fusermount3', ['-u', this.#fuse]);
  }

  /** Leaves, whatever state it is in: the server is gone. */
  async abandon(): Promise<void> {
    await execute('umount', ['-l', this.folder]);
    await execute('fusermount3', ['-u', '-z', this.#fuse]);
  }
}
