import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute, until } from '../e2e/process.ts';

/** What can be wrong with a disk, for as long as its switch is there. */
export const faults = {
  flush: 'error(op=flush,errno=EIO,while=SWITCH)',
  io: 'error(op=read|write,p=0.3,seed=SEED,errno=EIO,while=SWITCH)',
  rare: 'error(op=read|write,p=0.02,seed=SEED,errno=EIO,while=SWITCH)',
  dead: 'error(op=read|write|flush|trim,errno=EIO,while=SWITCH)',
  slow: 'delay(op=read|write|flush,p=0.3,ms=40,seed=SEED,while=SWITCH)',
  short: 'short(align=512,p=0.3,seed=SEED,while=SWITCH)',
};
export type Fault = keyof typeof faults | 'stop';

/** A disk that faults can be switched on and off of; one that another process serves can be stopped too. */
export interface Disk {
  readonly name: string;
  readonly path: string;
  readonly server: ChildProcess | undefined;
}

/** The disks of a soak, in a folder. */
export class Disks {
  readonly folder: string;
  readonly #switches: string;
  readonly #backing: string;
  readonly #disks = new Map<string, Disk>();
  readonly #children: ChildProcess[] = [];

  constructor(directory: string) {
    this.folder = join(directory, 'disks');
    this.#switches = join(directory, 'faults');
    this.#backing = join(directory, 'backing');
    for (const folder of [this.folder, this.#switches, this.#backing]) mkdirSync(folder);
  }

  /** A file of its own, or, when it is to be `stoppable` and there is FUSE, one that nbdkit serves through nbdfuse. */
  async make(name: string, sizeBytes: number, stoppable: boolean): Promise<Disk> {
    const path = join(this.folder, name);
    const served = stoppable && existsSync('/dev/fuse') ? await this.#serve(name, path, sizeBytes) : undefined;
    if (served === undefined) sparse(path, sizeBytes);
    const disk = { name, path, server: served };
    this.#disks.set(name, disk);
    return disk;
  }

  disk(name: string): Disk {
    return this.#disks.get(name)!;
  }

  /** ZOW_FAULTS of a host with these disks. */
  rules(seed: number): string {
    return [...this.#disks.keys()]
      .flatMap((disk, i) =>
        Object.entries(faults).map(
          ([fault, rule]) =>
            `disks/${disk}:${rule.replace('SEED', `${seed * 100 + i}`).replace('SWITCH', this.#switch(disk, fault))}`,
        ),
      )
      .join(';');
  }

  on(disk: string, fault: Fault): void {
    if (fault === 'stop') this.disk(disk).server?.kill('SIGSTOP');
    else writeFileSync(this.#switch(disk, fault), '');
  }

  off(disk: string, fault: Fault): void {
    if (fault === 'stop') this.disk(disk).server?.kill('SIGCONT');
    else rmSync(this.#switch(disk, fault), { force: true });
  }

  allOff(): void {
    for (const name of this.#disks.keys()) {
      for (const fault of [...Object.keys(faults), 'stop'] as Fault[]) this.off(name, fault);
    }
  }

  async close(): Promise<void> {
    this.allOff();
    for (const { path, server } of this.#disks.values()) {
      if (server !== undefined) await execute('fusermount3', ['-u', '-z', path]);
    }
    for (const child of this.#children) child.kill('SIGKILL');
  }

  #switch(disk: string, fault: string): string {
    return join(this.#switches, `${disk}.${fault}`);
  }

  async #serve(name: string, path: string, sizeBytes: number): Promise<ChildProcess> {
    const file = join(this.#backing, name);
    sparse(file, sizeBytes);
    writeFileSync(path, '');
    const socket = join(this.#backing, `${name}.sock`);
    const server = this.#spawn('nbdkit', '-f', '-U', socket, 'file', file);
    await until(`nbdkit serves ${name}`, () => existsSync(socket));
    const pidFile = join(this.#backing, `${name}.pid`);
    this.#spawn('nbdfuse', '-P', pidFile, path, `nbd+unix:///?socket=${socket}`);
    await until(`nbdfuse serves ${name}`, () => existsSync(pidFile));
    return server;
  }

  #spawn(command: string, ...args: string[]): ChildProcess {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { stdio: 'ignore' });
    this.#children.push(child);
    return child;
  }
}

function sparse(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
}
