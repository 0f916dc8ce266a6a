import type { VolumeInfo } from '../volumes/volume.ts';

/** What a logical unit tells of its volume's shape. */
export interface Geometry {
  /** Logical block in bytes: 512 or 4096. */
  readonly blockBytes: number;
  /** Logical blocks; what is left of the volume beyond the last whole one cannot be reached. */
  readonly blocks: number;
  /** log2 of how many logical blocks a physical one has (a volblocksize). */
  readonly physicalExponent: number;
}

export function geometryOf(info: VolumeInfo, blockBytes: number): Geometry {
  return {
    blockBytes,
    blocks: Math.floor(info.size / blockBytes),
    physicalExponent: Math.min(15, Math.max(0, Math.log2(info.blockSize / blockBytes))),
  };
}

/** What one command may ask for. */
export interface TransferLimits {
  /** Data of one command in bytes, a power of two. */
  readonly transferBytes: number;
  /** Of COMPARE AND WRITE in blocks, one byte. */
  readonly compareBlocks: number;
  /** Of WRITE SAME in bytes. */
  readonly sameBytes: number;
  /** All descriptors of one UNMAP together, in bytes, and how many there may be. */
  readonly unmapBytes: number;
  readonly unmapDescriptors: number;
}
