/**
 * An I_T nexus: one initiator port and one target port that know each other (SAM-5, 4.7). It lives as long as its session;
 * what outlives it, a registration, goes by its `port`.
 */
export interface Nexus {
  /** Names both ports: what is registered under it is found again when the same initiator comes back. */
  readonly port: InitiatorPort;
  /** Nothing can be changed through it. */
  readonly readOnly: boolean;
}

/** An initiator port as one target sees it. */
export interface InitiatorPort {
  /** iSCSI name of the initiator node. */
  readonly initiator: string;
  /** Initiator session id, 12 hexadecimal digits. */
  readonly isid: string;
  /** iSCSI name of the target. */
  readonly target: string;
}

/** The same text for the same nexus. */
export function portKey(port: InitiatorPort): string {
  return `${port.initiator},i,0x${port.isid} ${port.target}`;
}

/** TransportID of an iSCSI initiator port with its ISID, SPC-4 7.6.4.6. */
export function encodeTransportId({ initiator, isid }: InitiatorPort): Buffer {
  const name = Buffer.from(`${initiator},i,0x${isid}\0`);
  const padded = Math.max(20, Math.ceil(name.length / 4) * 4);
  const bytes = Buffer.alloc(4 + padded);
  bytes[0] = 0x45; // format 01b, protocol 5
  bytes.writeUInt16BE(padded, 2);
  name.copy(bytes, 4);
  return bytes;
}

/** What a TransportID names; undefined when it is not one of an iSCSI initiator port. */
export function decodeTransportId(bytes: Uint8Array): Pick<InitiatorPort, 'initiator' | 'isid'> | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < 4 || buffer[0] !== 0x45 || buffer.length < 4 + buffer.readUInt16BE(2)) return undefined;
  const end = buffer.indexOf(0, 4);
  const text = buffer.toString('utf8', 4, end === -1 ? 4 + buffer.readUInt16BE(2) : end);
  const match = /^(.{1,223}),i,0x([0-9a-f]{12})$/i.exec(text);
  return match === null ? undefined : { initiator: match[1]!.toLowerCase(), isid: match[2]!.toLowerCase() };
}
