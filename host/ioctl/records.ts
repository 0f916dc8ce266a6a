/** A send stream as far as reading it ahead needs: where one record ends and the next begins (sys/zfs_ioctl.h). */

/** sizeof (dmu_replay_record_t). */
const headerBytes = 312;
/** SPA_MAXBLOCKSIZE. */
const payloadBytesMax = 16 * 1024 * 1024;

const DRR = {
  OBJECT: 1,
  FREEOBJECTS: 2,
  WRITE: 3,
  FREE: 4,
  SPILL: 7,
  WRITE_EMBEDDED: 8,
  OBJECT_RANGE: 9,
  REDACT: 10,
} as const;

/**
 * Bytes between this header and the next, as `zow_record_payload()` of cli/src/zow_client.h has them; -1 when there is no
 * next one, or the receiver will not get that far.
 */
function payloadBytes(header: Uint8Array): number {
  const view = new DataView(header.buffer, header.byteOffset, headerBytes);
  const u32 = (offset: number) => view.getUint32(offset, true);
  const u64 = (offset: number) => Number(view.getBigUint64(offset, true));
  const bytes = (): number => {
    switch (u32(0)) {
      case DRR.OBJECT: // drr_raw_bonuslen, drr_bonuslen
        return u32(36) || roundUp(u32(28));
      case DRR.WRITE: // drr_compressiontype, drr_compressed_size, drr_logical_size
        return view.getUint8(50) !== 0 ? u64(96) : u64(32);
      case DRR.WRITE_EMBEDDED: // drr_psize
        return roundUp(u32(52));
      case DRR.SPILL: // drr_compressed_size, drr_length
        return u64(40) || u64(16);
      case DRR.FREEOBJECTS:
      case DRR.FREE:
      case DRR.REDACT:
      case DRR.OBJECT_RANGE:
        return 0;
      default:
        return -1;
    }
  };
  const count = bytes();
  return count <= payloadBytesMax ? count : -1;
}

/** The next multiple of 8. */
function roundUp(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/**
 * Reads of a send stream into one buffer: what is left of a record, then records, headers whole, as many as there is
 * room for, and nothing behind the last.
 *
 *   │ left │ header │ payload │ header │ payl…
 *   └── one read ───┘└─── one read ────┘
 */
export class RecordWalk {
  readonly #buffer: Uint8Array;
  /** Payload that is still to come before the next header; -1: the stream is at its end. */
  #left: number;
  /** Of a header that is under way. */
  #header = 0;
  /** Bytes in the buffer. */
  #filled = 0;

  constructor(buffer: Uint8Array, left: number) {
    this.#buffer = buffer;
    this.#left = left;
  }

  /** Where the next bytes go, and how many at most; undefined: no more. */
  window(): Uint8Array | undefined {
    const room = this.#buffer.byteLength - this.#filled;
    if (this.#left < 0) return undefined;
    const whole = this.#left + headerBytes - this.#header;
    const bytes = whole <= room ? whole : Math.min(this.#left, room);
    return bytes > 0 ? this.#buffer.subarray(this.#filled, this.#filled + bytes) : undefined;
  }

  /** So many bytes came. */
  took(bytes: number): void {
    this.#filled += bytes;
    const payload = Math.min(bytes, this.#left);
    this.#left -= payload;
    this.#header += bytes - payload;
    if (this.#header < headerBytes) return;
    this.#header = 0;
    this.#left = payloadBytes(this.#buffer.subarray(this.#filled - headerBytes, this.#filled));
  }

  get bytes(): number {
    return this.#filled;
  }

  /** Whether what came may be handed on: a header is not cut. */
  get isWhole(): boolean {
    return this.#filled > 0 && this.#header === 0;
  }
}
