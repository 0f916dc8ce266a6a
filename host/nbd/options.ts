import { STRING_BYTES_MAX } from '../protocols/nbd.ts';

/** The client's option data do not have the form the option asks for: answered with ERR_INVALID and this sentence. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

/** Reads option data front to back; running out of bytes, or leaving some, is an OptionError. */
class OptionReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  u16(): number {
    return this.#take(2).readUInt16BE(0);
  }

  u32(): number {
    return this.#take(4).readUInt32BE(0);
  }

  string(length: number): string {
    if (length > STRING_BYTES_MAX) throw new OptionError(`string of ${length} bytes`);
    const bytes = this.#take(length);
    if (bytes.includes(0)) throw new OptionError('string with a NUL');
    return bytes.toString('utf8');
  }

  rest(): number {
    return this.#data.length - this.#at;
  }

  end(): void {
    if (this.rest() !== 0) throw new OptionError(`${this.rest()} bytes too many`);
  }

  #take(length: number): Buffer {
    if (length > this.rest()) throw new OptionError('option data end early');
    const bytes = this.#data.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }
}

/** Data of INFO and GO. */
export function parseInfo(data: Buffer): { name: string; wanted: Set<number> } {
  const reader = new OptionReader(data);
  const name = reader.string(reader.u32());
  const wanted = new Set<number>();
  for (let count = reader.u16(); count > 0; count--) wanted.add(reader.u16());
  reader.end();
  return { name, wanted };
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. Each query takes at least four bytes, so the data bound their number. */
export function parseMetaContext(data: Buffer): { name: string; queries: string[] } {
  const reader = new OptionReader(data);
  const name = reader.string(reader.u32());
  const queries: string[] = [];
  for (let count = reader.u32(); count > 0; count--) queries.push(reader.string(reader.u32()));
  reader.end();
  return { name, queries };
}

/** Data of EXPORT_NAME: a name and nothing else. */
export function parseName(data: Buffer): string {
  return new OptionReader(data).string(data.length);
}

/** Options that carry no data. */
export function parseNothing(data: Buffer): void {
  new OptionReader(data).end();
}
