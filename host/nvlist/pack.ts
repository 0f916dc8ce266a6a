import { DataType } from './nvlist.ts';

/** Encoding XDR, little-endian host, reserved. */
const header = Uint8Array.of(1, 1, 0, 0);
/** Version 0, unique names. */
const versionAndFlags = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1);
const end = new Uint8Array(8);
/** sizeof (nvpair_t). */
const nvpairBytes = 16;

const align8 = (length: number) => Math.ceil(length / 8) * 8;

/** A packed nvlist of strings in XDR encoding, as nvlist_pack() makes it: nvs_xdr() in module/nvpair/nvpair.c. */
export function packStrings(strings: Readonly<Record<string, string>>): Uint8Array {
  const pairs = Object.entries(strings).map(([name, value]) => {
    const body = Buffer.concat([xdrString(name), u32(DataType.STRING), u32(1), xdrString(value)]);
    // The size that the pair has in memory (NVP_SIZE_CALC).
    const decoded = align8(nvpairBytes + Buffer.byteLength(name) + 1) + align8(Buffer.byteLength(value) + 1);
    return Buffer.concat([u32(body.length + 8), u32(decoded), body]);
  });
  return Buffer.concat([header, versionAndFlags, ...pairs, end]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function xdrString(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u32(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);
}
