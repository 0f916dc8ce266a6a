import { resolve } from 'node:path';
import { REMOTE_FOLDER } from '../devices/remote.ts';
import type { LogFormat } from '../log.ts';
import { readTcpAddress, type TakeAddress } from './address.ts';
import {
  type Config,
  DEVICE_BYTES_MIN,
  type LogLevel,
  MEMORY_BYTES_DEFAULT,
  MEMORY_BYTES_MAX,
  MEMORY_BYTES_MIN,
  type NbdListenerConfig,
  type PoolConfig,
  type RemoteDeviceConfig,
  SOCKET_PATH_BYTES_MAX,
  type TunableConfig,
  VOLBLOCKSIZE_DEFAULT,
  VOLBLOCKSIZE_MAX,
  VOLBLOCKSIZE_MIN,
  type VolumeConfig,
} from './config.ts';
import type { SemanticContext } from './context.ts';
import { readDevices } from './devices.ts';
import { readHttp } from './http.ts';
import { readIscsiListeners, readTargets } from './iscsi.ts';
import { datasetNameProblem, poolNameProblem } from './names.ts';
import { readNbdPolicy } from './nbd.ts';
import { type KeyPath, quote } from './problem.ts';
import { formatSize, parseSize } from './size.ts';
import { parseVdevs, type VdevSpec } from './vdevs.ts';

const WASM_PAGE_BYTES = 64 * 1024;
const WITHOUT_TLS =
  'NBD without TLS has neither passwords nor encryption; use 127.0.0.1 or a unix socket, require tls, or add allow_remote: true';

type Mapping = Readonly<Record<string, unknown>>;

/**
 * Turns the values into a Config, reporting what the schema cannot say: names, the vdev grammar, sizes that do not fit
 * each other, and whatever is given twice. A value of the wrong type is passed over, for the schema has reported it; the
 * result is only of use when nothing was reported.
 */
export function interpret(value: unknown, context: SemanticContext): Config {
  const root = mapping(value);
  const taken = new Map<string, KeyPath>();
  const socket = readSocket(root, context, taken);
  const memoryBytes = readMemory(root.memory, ['memory'], MEMORY_BYTES_DEFAULT, context);
  const remote = readDevices(root.devices, context);
  const devices = new Map<string, KeyPath>();
  const pools = Object.entries(mapping(root.pools)).map(([name, pool]) =>
    readPool(name, mapping(pool), memoryBytes, context, devices),
  );
  const listeners = Array.isArray(root.nbd) ? root.nbd : [];
  checkRemoteVdevs(pools, remote, context);
  const nbd = listeners
    .map((listener, index) => readNbdListener(mapping(listener), ['nbd', index], context, taken))
    .filter((listener) => listener !== undefined);
  const take: TakeAddress = (id, what, key) => checkTaken(id, what, key, context, taken);
  const iscsi = readIscsiListeners(root.iscsi, context, take);
  const { level, format } = mapping(root.log);
  return {
    file: undefined,
    socket,
    memoryBytes,
    logLevel: typeof level === 'string' ? (level as LogLevel) : undefined,
    logFormat: typeof format === 'string' ? (format as LogFormat) : undefined,
    zed: root.zed !== false,
    tunables: readTunables(mapping(root.tunables), context),
    devices: remote,
    pools,
    nbd,
    iscsi,
    targets: readTargets(root.targets, iscsi.length > 0, context),
    http: readHttp(root.http, context, take, (path, key) => checkSocketPath(path, key, context, taken)),
  };
}

/** What stands below /dev/zow has to be one of `devices`. */
function checkRemoteVdevs(
  pools: readonly PoolConfig[],
  devices: readonly RemoteDeviceConfig[],
  { report }: SemanticContext,
): void {
  const known = new Set(devices.map(({ name }) => REMOTE_FOLDER + name));
  for (const pool of pools) {
    for (const { path, index } of pool.vdevs.leaves) {
      if (!path.startsWith(REMOTE_FOLDER) || known.has(path)) continue;
      const name = path.slice(REMOTE_FOLDER.length);
      report(['pools', pool.name, 'vdevs', index], 'value', `there is no ${quote(name)} in devices`);
    }
  }
}

function mapping(value: unknown): Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Mapping) : {};
}

/** Bytes, or undefined for what the schema has refused. Reports what the schema lets pass but no number can hold. */
function readSize(value: unknown, path: KeyPath, context: SemanticContext): number | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  const bytes = parseSize(value);
  if (
    bytes === undefined &&
    typeof value === 'string' &&
    /^[.\d]/.test(value) &&
    parseSize(value.replace(/^[.\d]+/, '0')) !== undefined
  ) {
    context.report(path, 'value', `${quote(value)} is too large; the most is 8P less one byte`);
  }
  return bytes;
}

function readSocket(root: Mapping, context: SemanticContext, taken: Map<string, KeyPath>): string {
  const given = root.socket;
  if (typeof given !== 'string' || given === '') {
    if (given === undefined && context.defaultSocket === undefined) {
      context.report([], 'value', `the key 'socket' is missing, and there is no XDG_RUNTIME_DIR to put it in`);
    }
    return context.defaultSocket ?? '';
  }
  const path = resolve(context.directory, given);
  checkSocketPath(path, ['socket'], context, taken);
  return path;
}

function checkSocketPath(path: string, key: KeyPath, context: SemanticContext, taken: Map<string, KeyPath>): void {
  const bytes = Buffer.byteLength(path);
  if (path.includes('\0')) context.report(key, 'value', 'a path cannot contain a NUL character');
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    context.report(
      key,
      'value',
      `the path of a unix socket is at most ${SOCKET_PATH_BYTES_MAX} bytes, ${quote(path)} has ${bytes}`,
    );
  }
  checkTaken(`unix:${path}`, `the socket ${quote(path)}`, key, context, taken);
}

function checkTaken(
  id: string,
  what: string,
  key: KeyPath,
  context: SemanticContext,
  taken: Map<string, KeyPath>,
): void {
  const other = taken.get(id);
  if (other !== undefined)
    context.report(key, 'value', `${what} is used twice, first in line ${context.place(other).line}`);
  else taken.set(id, key);
}

function readMemory(value: unknown, path: KeyPath, otherwise: number, context: SemanticContext): number {
  if (value === undefined) return otherwise;
  const bytes = readSize(value, path, context);
  if (bytes === undefined) return otherwise;
  if (bytes < MEMORY_BYTES_MIN || bytes > MEMORY_BYTES_MAX) {
    const allowed = `${formatSize(MEMORY_BYTES_MIN)} to ${formatSize(MEMORY_BYTES_MAX)}`;
    context.report(path, 'value', `must be ${allowed} (the core is a 32-bit program), not ${quote(value)}`);
  } else if (bytes % WASM_PAGE_BYTES !== 0) {
    context.report(path, 'value', `must be a multiple of ${formatSize(WASM_PAGE_BYTES)}, not ${quote(value)}`);
  }
  return bytes;
}

function readTunables(tunables: Mapping, { place }: SemanticContext): TunableConfig[] {
  return Object.entries(tunables)
    .filter(([, value]) => typeof value === 'string' || typeof value === 'number')
    .map(([name, value]) => ({ name, value: String(value), place: place(['tunables', name]) }));
}

function readPool(
  name: string,
  pool: Mapping,
  memoryBytes: number,
  context: SemanticContext,
  devices: Map<string, KeyPath>,
): PoolConfig {
  const path: KeyPath = ['pools', name];
  const nameProblem = poolNameProblem(name);
  if (nameProblem !== undefined) context.report(path, 'key', nameProblem);

  const vdevs = readVdevs(pool.vdevs, [...path, 'vdevs'], context, devices);
  const create = pool.create;
  let sizeBytes: number | undefined;
  if (create !== undefined) {
    const key = [...path, 'create', 'size'];
    const size = mapping(create).size;
    sizeBytes = readSize(size, key, context);
    if (sizeBytes !== undefined && sizeBytes < DEVICE_BYTES_MIN) {
      context.report(key, 'value', `a device has at least ${formatSize(DEVICE_BYTES_MIN)}, not ${quote(size)}`);
    }
  }
  const volumes = Object.entries(mapping(pool.volumes)).map(([volume, value]) =>
    readVolume(`${name}/${volume}`, mapping(value), [...path, 'volumes', volume], context),
  );
  return {
    name,
    vdevs,
    create: create === undefined ? undefined : { sizeBytes },
    memoryBytes: readMemory(pool.memory, [...path, 'memory'], memoryBytes, context),
    properties: properties(mapping(pool.properties), []),
    volumes,
  };
}

function readVdevs(value: unknown, path: KeyPath, context: SemanticContext, devices: Map<string, KeyPath>): VdevSpec {
  const none: VdevSpec = { args: [], leaves: [], data: [], summary: '' };
  if (!Array.isArray(value) || value.length === 0 || !value.every((word) => typeof word === 'string' && word !== '')) {
    return none;
  }
  const spec = parseVdevs(value as string[], context.directory);
  if (!('leaves' in spec)) {
    for (const { index, message } of spec) {
      context.report(index === undefined ? path : [...path, index], 'value', message);
    }
    return none;
  }
  for (const leaf of spec.leaves) {
    checkTaken(leaf.path, `the device ${quote(value[leaf.index])}`, [...path, leaf.index], context, devices);
  }
  return spec;
}

function readVolume(name: string, volume: Mapping, path: KeyPath, context: SemanticContext): VolumeConfig {
  const nameProblem = datasetNameProblem(name);
  if (nameProblem !== undefined) context.report(path, 'key', nameProblem);

  const blockSize = readSize(volume.volblocksize, [...path, 'volblocksize'], context);
  const blockSizeValid =
    blockSize === undefined ||
    (blockSize >= VOLBLOCKSIZE_MIN && blockSize <= VOLBLOCKSIZE_MAX && Number.isInteger(Math.log2(blockSize)));
  if (!blockSizeValid) {
    const allowed = `a power of two from ${VOLBLOCKSIZE_MIN} to ${formatSize(VOLBLOCKSIZE_MAX)}`;
    context.report([...path, 'volblocksize'], 'value', `must be ${allowed}, not ${quote(volume.volblocksize)}`);
  }
  const sizeBytes = readSize(volume.size, [...path, 'size'], context);
  if (sizeBytes === 0) context.report([...path, 'size'], 'value', 'a volume cannot be empty');
  const unit = blockSize ?? VOLBLOCKSIZE_DEFAULT;
  if (sizeBytes !== undefined && blockSizeValid && sizeBytes % unit !== 0) {
    const which =
      blockSize === undefined ? `the default volblocksize ${formatSize(unit)}` : `volblocksize ${formatSize(unit)}`;
    context.report([...path, 'size'], 'value', `must be a multiple of ${which}, not ${quote(volume.size)}`);
  }
  checkEncryption(volume, path, context);
  const result = properties(volume, ['size', 'sparse']);
  if (blockSize !== undefined) result.set('volblocksize', String(blockSize));
  return { name, sizeBytes: sizeBytes ?? 0, sparse: volume.sparse === true, properties: result };
}

/** Nobody is there to type a passphrase: a key has to come from a file. */
function checkEncryption(volume: Mapping, path: KeyPath, context: SemanticContext): void {
  const encrypted = volume.encryption !== undefined && volume.encryption !== 'off';
  if (encrypted && volume.keyformat !== undefined && volume.keylocation === undefined) {
    context.report(
      path,
      'key',
      `keyformat needs keylocation: file:///path of the key, for zow serve cannot ask for it`,
    );
  }
  if (!encrypted && (volume.keyformat !== undefined || volume.keylocation !== undefined)) {
    const key = volume.keyformat === undefined ? 'keylocation' : 'keyformat';
    context.report([...path, key], 'key', `needs encryption to be on`);
  }
}

function properties(values: Mapping, except: readonly string[]): Map<string, string> {
  const result = new Map<string, string>();
  for (const [name, value] of Object.entries(values)) {
    if (!except.includes(name) && (typeof value === 'string' || typeof value === 'number'))
      result.set(name, String(value));
  }
  return result;
}

function readNbdListener(
  listener: Mapping,
  path: KeyPath,
  context: SemanticContext,
  taken: Map<string, KeyPath>,
): NbdListenerConfig | undefined {
  const { unix, tcp, allow_remote: allowRemote } = listener;
  const policy = readNbdPolicy(listener, path, context);
  const more = policy === undefined ? {} : { policy };
  if (typeof unix === 'string' && unix !== '') {
    const socket = resolve(context.directory, unix);
    checkSocketPath(socket, [...path, 'unix'], context, taken);
    if (allowRemote !== undefined) context.report([...path, 'allow_remote'], 'key', 'is only for tcp');
    return { kind: 'unix', path: socket, ...more };
  }
  const isOpen = allowRemote !== true && policy?.tls?.mode !== 'required';
  const take: TakeAddress = (id, what, key) => checkTaken(id, what, key, context, taken);
  const address = readTcpAddress(tcp, [...path, 'tcp'], isOpen ? WITHOUT_TLS : undefined, context, take);
  if (address === undefined) return undefined;
  return { kind: 'tcp', address, allowRemote: allowRemote === true, ...more };
}
