import { crc32 } from 'node:zlib';

/** The unit of what is promised and checked. In bytes. */
export const blockBytes = 4096;
const headerBytes = 16;
const magic = 0x5a6f5721;

const zeroes = Buffer.alloc(blockBytes);

/**
 * Fills a block with its identity: magic, number of the block, version, and a checksum of the rest, which depends on both
 * and does not compress.
 */
export function fillBlock(into: Uint8Array, number: number, version: number): void {
  const block = Buffer.from(into.buffer, into.byteOffset, blockBytes);
  let state = (Math.imul(number, 2654435761) ^ Math.imul(version, 40503)) >>> 0 || 1;
  for (let at = headerBytes; at < blockBytes; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    block.writeInt32LE(state | 0, at);
  }
  block.writeUInt32LE(magic, 0);
  block.writeUInt32LE(number, 4);
  block.writeUInt32LE(version, 8);
  block.writeUInt32LE(checksum(block), 12);
}

/** The version of a block: 0 of zeroes, undefined of what is torn, foreign or damaged. */
export function versionOf(content: Uint8Array, number: number): number | undefined {
  const block = Buffer.from(content.buffer, content.byteOffset, blockBytes);
  if (block.readUInt32LE(0) === 0) return block.equals(zeroes) ? 0 : undefined;
  const whole =
    block.readUInt32LE(0) === magic && block.readUInt32LE(4) === number && block.readUInt32LE(12) === checksum(block);
  const version = block.readUInt32LE(8);
  return whole && version > 0 ? version : undefined;
}

function checksum(block: Buffer): number {
  return crc32(block.subarray(headerBytes), crc32(block.subarray(0, 12)));
}
