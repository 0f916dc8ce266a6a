import {
  encodeFrameHeader,
  encodeHello,
  encodeIoctlHead,
  encodeQuery,
  FrameType,
  ioctlHeadBytes,
  QueryKind,
} from '../../../host/ioctl/protocol.ts';
import { hello } from './client.ts';
import type { FakeHandler } from './fake-core.ts';

/** zfs_cmd_t of the conversation: small, so that mutations hit what surrounds it. */
export const cmdSize = 64;

export const echo = 0x5a00;
export const stream = 0x5a01;

/** The core that `conversation` talks to: one ioctl returns its input, one reads and writes a stream once. */
export const handlers: Record<number, FakeHandler> = {
  [echo]: async ({ src, conf, history, dstRoom }) => ({
    dst: Buffer.concat([src, conf, history]).subarray(0, dstRoom),
  }),
  [stream]: async ({ streams, dstRoom }) => {
    const buffer = new Uint8Array(8);
    const count = await streams.read(0, buffer);
    await streams.write(1, buffer.subarray(0, count));
    await streams.drain();
    return { dst: buffer.subarray(0, Math.min(count, dstRoom)) };
  },
};

/** What a client sends in a hello, an ioctl with buffers, an ioctl with one stream read and one write, a query, and a last ioctl. */
export function conversation(): Buffer[] {
  const ioctl = (request: number, src: string, history: string): Buffer => {
    const head = {
      request,
      srcBytes: src.length,
      confBytes: 3,
      historyBytes: history.length,
      dstRoom: 1000,
      historyRoom: 0,
    };
    const length = ioctlHeadBytes + cmdSize + src.length + 3 + history.length;
    return Buffer.concat([
      encodeFrameHeader(FrameType.ioctl, length),
      encodeIoctlHead(head),
      Buffer.alloc(cmdSize, 'c'),
      Buffer.from(`${src}cnf${history}`),
    ]);
  };
  const data = Buffer.concat([encodeFrameHeader(FrameType.streamData, 9), Buffer.alloc(4), Buffer.from('bytes')]);
  const written = Buffer.concat([encodeFrameHeader(FrameType.streamWritten, 4), Buffer.alloc(4)]);
  return [
    encodeHello({ ...hello, cmdSize }),
    ioctl(echo, 'source', ''),
    ioctl(stream, '', 'zpool\0'),
    data,
    written,
    encodeQuery({ kind: QueryKind.kstats, text: 'zfs/tank' }),
    ioctl(echo, 'again', ''),
  ];
}
