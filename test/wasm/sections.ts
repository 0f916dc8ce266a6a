/** A function that a module imports or exports: `zow device-open: (i32 i32 i32 i32) -> (i32)`. */
export interface Crossing {
  /** Module of an import; '' of an export. */
  readonly module: string;
  readonly name: string;
  readonly type: string;
}

const valueTypes: Readonly<Record<number, string>> = { 127: 'i32', 126: 'i64', 125: 'f32', 124: 'f64', 123: 'v128' };
const section = { type: 1, import: 2, function: 3, export: 7 };
const kind = { function: 0, table: 1, memory: 2, global: 3 };

/** Reads the binary format (WebAssembly core specification, 5). */
class Reader {
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.at >= this.#bytes.length;
  }

  byte(): number {
    return this.#bytes[this.at++]!;
  }

  /** LEB128, unsigned. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error('LEB128 too long');
  }

  bytes(length: number): Uint8Array {
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  name(): string {
    return Buffer.from(this.bytes(this.u32())).toString();
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.u32() }, item);
  }

  /** Minimum, and maximum where there is one. */
  limits(): void {
    const flags = this.byte();
    this.u32();
    if (flags & 1) this.u32();
  }

  valueTypes(): string {
    return `(${this.list(() => valueTypes[this.byte()] ?? '?').join(' ')})`;
  }

  functionType(): string {
    if (this.byte() !== 0x60) throw new Error('not a function type');
    return `${this.valueTypes()} -> ${this.valueTypes()}`;
  }
}

/** The functions of a module's import and export sections. */
export function crossings(bytes: Uint8Array): { imports: readonly Crossing[]; exports: readonly Crossing[] } {
  const module = new Reader(bytes);
  if (Buffer.from(module.bytes(8)).toString('latin1') !== '\0asm\x01\0\0\0') throw new Error('not a core module');
  let types: string[] = [];
  /** The type of each function, imported ones first. */
  const functions: string[] = [];
  const imports: Crossing[] = [];
  const exports: Crossing[] = [];
  while (!module.isAtEnd) {
    const id = module.byte();
    const reader = new Reader(module.bytes(module.u32()));
    if (id === section.type) types = reader.list(() => reader.functionType());
    if (id === section.function) reader.list(() => functions.push(types[reader.u32()]!));
    if (id === section.import)
      reader.list(() => {
        const [from, name, what] = [reader.name(), reader.name(), reader.byte()];
        if (what === kind.function) {
          const type = types[reader.u32()]!;
          functions.push(type);
          imports.push({ module: from, name, type });
        } else if (what === kind.memory) reader.limits();
        else throw new Error(`${from}.${name}: neither a function nor a memory`);
      });
    if (id === section.export)
      reader.list(() => {
        const [name, what, index] = [reader.name(), reader.byte(), reader.u32()];
        if (what === kind.function) exports.push({ module: '', name, type: functions[index]! });
      });
  }
  return { imports, exports };
}
