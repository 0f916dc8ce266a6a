import type { LibcExports } from '../runtime/module.ts';

/** The exports of wasm/core; wasm/zow.wit describes them. Addresses are opaque numbers to the host. */
export interface CoreExports extends LibcExports {
  'session-open'(request: number, process: number, fd: number): number;
  'session-close'(request: number, session: number): number;
  'ioctl-submit'(
    id: number,
    session: number,
    number: number,
    buffer: number,
    srcLength: number,
    confLength: number,
    historyLength: number,
    dstRoom: number,
    historyRoom: number,
  ): number;
  'vdev-complete'(token: number, errno: number): void;
  'volume-open'(request: number, name: number, readOnly: number): number;
  'volume-submit'(
    request: number,
    handle: number,
    op: number,
    buffer: number,
    offset: number,
    length: number,
    flags: number,
  ): number;
}

/** What an import answers when its completion comes later (IO_PENDING of wasm/libc/fiber.h). */
export const ioPending = -(2 ** 31);
