import fs from 'node:fs';
import type { Device, DeviceCapabilities } from '../../host/devices/device.ts';
import { checkOffset, checkWithin, closedError, roomForWrite } from '../../host/devices/range.ts';

const pageBytes = 4096;
const zeroes = Buffer.alloc(pageBytes);

/**
 * A disk whose writes go to pages of its own above a base that stays as it is. It answers at once. The content is what
 * outlives a close: a disk is opened several times during an import.
 */
export class Overlay {
  readonly base: Uint8Array;
  readonly #pages = new Map<number, Uint8Array>();

  /** The base may change only while nobody reads. Its size is whole pages. */
  constructor(base: Uint8Array) {
    this.base = base;
  }

  read(buffer: Uint8Array, offset: number): number {
    const length = Math.max(0, Math.min(buffer.byteLength, this.base.byteLength - offset));
    buffer.set(this.base.subarray(offset, offset + length));
    for (let at = offset - (offset % pageBytes); at < offset + length; at += pageBytes) {
      const page = this.#pages.get(at);
      if (page === undefined) continue;
      const from = Math.max(at, offset);
      const to = Math.min(at + pageBytes, offset + length);
      buffer.set(page.subarray(from - at, to - at), from - offset);
    }
    return length;
  }

  write(data: Uint8Array, offset: number): void {
    for (let done = 0; done < data.byteLength; ) {
      const inPage = (offset + done) % pageBytes;
      const length = Math.min(pageBytes - inPage, data.byteLength - done);
      this.#page(offset + done - inPage).set(data.subarray(done, done + length), inPage);
      done += length;
    }
  }

  fill(value: number, offset: number, length: number): void {
    this.write(new Uint8Array(length).fill(value), offset);
  }

  /** The same content, to be changed independently. */
  clone(): Overlay {
    const copy = new Overlay(this.base);
    for (const [at, page] of this.#pages) copy.#pages.set(at, page.slice());
    return copy;
  }

  /** Writes the content to a new sparse file. */
  save(file: string): void {
    const fd = fs.openSync(file, 'wx');
    try {
      fs.ftruncateSync(fd, this.base.byteLength);
      const page = Buffer.alloc(pageBytes);
      for (let at = 0; at < this.base.byteLength; at += pageBytes) {
        this.read(page, at);
        if (!page.equals(zeroes)) fs.writeSync(fd, page, 0, pageBytes, at);
      }
    } finally {
      fs.closeSync(fd);
    }
  }

  #page(at: number): Uint8Array {
    let page = this.#pages.get(at);
    if (page === undefined) {
      page = this.base.slice(at, at + pageBytes);
      this.#pages.set(at, page);
    }
    return page;
  }
}

/** An open of an overlay. */
export class OverlayDevice implements Device {
  readonly name: string;
  readonly identity: string;
  readonly capabilities: DeviceCapabilities;
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 4096;
  readonly #content: Overlay;
  #closed = false;

  constructor(name: string, content: Overlay, readOnly: boolean) {
    this.name = name;
    this.identity = `overlay:${name}`;
    this.#content = content;
    this.capabilities = { readOnly, trim: true, writeZeroes: true, durable: true, nonRotational: true };
  }

  isPresent(): boolean {
    return true;
  }

  size(): number {
    return this.#content.base.byteLength;
  }

  read(buffer: Uint8Array, offset: number): number {
    this.#check(offset, buffer.byteLength);
    return this.#content.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): number {
    this.#check(offset, buffer.byteLength);
    const length = roomForWrite(this.name, offset, buffer.byteLength, this.size());
    this.#content.write(buffer.subarray(0, length), offset);
    return length;
  }

  flush(): void {
    this.#check(0, 0);
  }

  trim(offset: number, length: number): void {
    this.writeZeroes(offset, length);
  }

  writeZeroes(offset: number, length: number): void {
    this.#check(offset, length);
    checkWithin(this.name, offset, length, this.size());
    this.#content.fill(0, offset, length);
  }

  close(): void {
    this.#closed = true;
  }

  #check(offset: number, length: number): void {
    if (this.#closed) throw closedError(this.name);
    checkOffset(this.name, offset, length);
  }
}
