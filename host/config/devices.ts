import { resolve } from 'node:path';
import { addressText, type NbdAddress } from '../devices/nbd/address.ts';
import type { SlowLimit } from '../devices/nbd/slowness.ts';
import type { TlsClientConfig } from '../net/tls.ts';
import {
  CONNECT_TIMEOUT_MS_DEFAULT,
  IO_TIMEOUT_MS_DEFAULT,
  type RemoteDeviceConfig,
  SOCKET_PATH_BYTES_MAX,
  TIMEOUT_MS_MAX,
  TIMEOUT_MS_MIN,
} from './config.ts';
import type { SemanticContext } from './context.ts';
import { type KeyPath, quote } from './problem.ts';

/** "MUST be no longer than 4096 bytes": the names of exports. */
const EXPORT_NAME_BYTES_MAX = 4096;

type Mapping = Readonly<Record<string, unknown>>;

/** The disks of `devices`. What the schema has refused is passed over. */
export function readDevices(value: unknown, context: SemanticContext): RemoteDeviceConfig[] {
  if (!isMapping(value)) return [];
  const devices: RemoteDeviceConfig[] = [];
  const taken = new Map<string, string>();
  for (const [name, device] of Object.entries(value)) {
    if (!isMapping(device) || typeof device.nbd !== 'string') continue;
    const path = ['devices', name];
    const address = readAddress(device.nbd, [...path, 'nbd'], context);
    if (address === undefined) continue;
    const text = addressText(address);
    const other = taken.get(text);
    if (other !== undefined) context.report([...path, 'nbd'], 'value', `is the same export as that of ${quote(other)}`);
    taken.set(text, name);
    devices.push({
      name,
      address,
      tls: isMapping(device.tls) ? readTls(device.tls, [...path, 'tls'], context) : undefined,
      ioTimeoutMs: readDuration(device.io_timeout, [...path, 'io_timeout'], IO_TIMEOUT_MS_DEFAULT, context),
      connectTimeoutMs: readDuration(
        device.connect_timeout,
        [...path, 'connect_timeout'],
        CONNECT_TIMEOUT_MS_DEFAULT,
        context,
      ),
      slow: readSlow(device.slow, [...path, 'slow'], context),
    });
  }
  return devices;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readAddress(text: string, path: KeyPath, context: SemanticContext): NbdAddress | undefined {
  const address = parseAddress(text, context.directory);
  if (typeof address !== 'string') return address;
  context.report(path, 'value', `${address}, not ${quote(text)}`);
  return undefined;
}

/** `HOST:PORT/EXPORT`, or the URI that other NBD programs take for a unix socket; else what is wrong with it. */
function parseAddress(text: string, directory: string): NbdAddress | string {
  if (text.includes('\0')) return 'cannot contain a NUL character';
  const tcp = /^(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]?]+)):(\d{1,5})\/(.*)$/s.exec(text);
  if (tcp !== null) {
    const [, six, name, port = '', exportName = ''] = tcp;
    if (Number(port) < 1 || Number(port) > 65535) return 'a port is 1 to 65535';
    if (Buffer.byteLength(exportName) > EXPORT_NAME_BYTES_MAX) return 'the name of an export is too long';
    return { kind: 'tcp', host: (six ?? name!).toLowerCase(), port: Number(port), exportName };
  }
  const unix = /^nbd\+unix:\/\/\/([^?]*)\?socket=([^&]+)$/s.exec(text);
  if (unix === null) return 'must be HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH';
  let exportName: string;
  try {
    exportName = decodeURIComponent(unix[1]!);
  } catch {
    return 'the name of the export is not well encoded';
  }
  if (Buffer.byteLength(exportName) > EXPORT_NAME_BYTES_MAX) return 'the name of an export is too long';
  const socket = resolve(directory, unix[2]!);
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    return `the path of a unix socket is at most ${SOCKET_PATH_BYTES_MAX} bytes`;
  }
  return { kind: 'unix', path: socket, exportName };
}

function readTls(tls: Mapping, path: KeyPath, context: SemanticContext): TlsClientConfig {
  const file = (key: string) => {
    const value = tls[key];
    return typeof value === 'string' ? resolve(context.directory, value) : undefined;
  };
  const config: TlsClientConfig = {
    authority: file('authority'),
    serverName: typeof tls.server_name === 'string' ? tls.server_name : undefined,
    certificate: file('certificate'),
    key: file('key'),
    psk: file('psk'),
  };
  if ((config.certificate === undefined) !== (config.key === undefined)) {
    context.report(path, 'value', 'certificate and key belong together');
  } else if (config.psk !== undefined && (config.certificate ?? config.authority ?? config.serverName) !== undefined) {
    context.report(path, 'value', 'psk is in the place of certificates, not beside them');
  }
  return config;
}

/** `500ms for 5s`. */
function readSlow(value: unknown, path: KeyPath, context: SemanticContext): SlowLimit | undefined {
  const [, over, period] = (typeof value === 'string' ? /^(\S+) for (\S+)$/.exec(value) : null) ?? [];
  if (over === undefined) return undefined;
  return { overMs: readDuration(over, path, 0, context), forMs: readDuration(period, path, 0, context) };
}

function readDuration(value: unknown, path: KeyPath, otherwise: number, context: SemanticContext): number {
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(ms|s)$/.exec(value) : null;
  if (match === null) return otherwise;
  const ms = Number(match[1]) * (match[2] === 's' ? 1000 : 1);
  if (ms < TIMEOUT_MS_MIN || ms > TIMEOUT_MS_MAX) {
    context.report(path, 'value', `must be ${TIMEOUT_MS_MIN}ms to ${TIMEOUT_MS_MAX / 1000}s, not ${quote(value)}`);
  }
  return ms;
}
