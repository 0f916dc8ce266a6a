import { BlockList, isIP } from 'node:net';
import { resolve } from 'node:path';
import { isName, PREFIX_DEFAULT, prepareName } from '../iscsi/names.ts';
import type { AllowRule, LunConfig, TargetConfig } from '../iscsi/targets.ts';
import { readTcpAddress, type TakeAddress } from './address.ts';
import type { IscsiListenerConfig } from './config.ts';
import type { SemanticContext } from './context.ts';
import { type KeyPath, quote } from './problem.ts';

type Mapping = Readonly<Record<string, unknown>>;

const BLOCK_BYTES_DEFAULT = 512;

const WITHOUT_CHAP =
  'iSCSI without chap asks nobody for a password; use 127.0.0.1, add chap, or add allow_remote: true';

/** All listeners of the section `iscsi`. */
export function readIscsiListeners(value: unknown, context: SemanticContext, take: TakeAddress): IscsiListenerConfig[] {
  const listeners = (Array.isArray(value) ? value : [])
    .map((listener, index) => readListener(mapping(listener), ['iscsi', index], context, take))
    .filter((listener) => listener !== undefined);
  const [first] = listeners;
  for (const [index, listener] of listeners.entries()) {
    if (listener.blockBytes === first!.blockBytes) continue;
    const key = ['iscsi', index, 'block_size'];
    context.report(key, 'value', `a volume has one block size: ${first!.blockBytes}, as the first listener says`);
  }
  return listeners;
}

function mapping(value: unknown): Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Mapping) : {};
}

function readListener(
  listener: Mapping,
  path: KeyPath,
  context: SemanticContext,
  take: TakeAddress,
): IscsiListenerConfig | undefined {
  const { prefix, exports, read_only: readOnly, block_size: blockBytes } = listener;
  const chap = readChap(mapping(listener.chap), context);
  const allowRemote = listener.allow_remote === true;
  const exposed = chap === undefined && !allowRemote ? WITHOUT_CHAP : undefined;
  const address = readTcpAddress(listener.listen, [...path, 'listen'], exposed, context, take);
  if (address === undefined) return undefined;
  const allow = Array.isArray(listener.allow)
    ? listener.allow.map((rule, index) => readAllow(mapping(rule), [...path, 'allow', index], context))
    : undefined;
  return {
    address,
    allowRemote,
    chap,
    prefix: typeof prefix === 'string' ? prefix : PREFIX_DEFAULT,
    blockBytes: typeof blockBytes === 'number' ? blockBytes : BLOCK_BYTES_DEFAULT,
    policy: {
      ...(Array.isArray(exports) && { exports: strings(exports) }),
      ...(typeof readOnly === 'boolean' && { readOnly }),
      ...(allow !== undefined && { allow }),
    },
  };
}

function strings(values: readonly unknown[]): string[] {
  return values.filter((value) => typeof value === 'string');
}

function readChap({ users, mutual }: Mapping, context: SemanticContext): IscsiListenerConfig['chap'] {
  if (typeof users !== 'string') return undefined;
  const file = (path: string) => resolve(context.directory, path);
  return { users: file(users), mutual: typeof mutual === 'string' ? file(mutual) : undefined };
}

function readAllow(rule: Mapping, path: KeyPath, context: SemanticContext): AllowRule {
  const { initiator, address, targets } = rule;
  const addresses = typeof address === 'string' ? networkOf(address) : undefined;
  if (typeof address === 'string' && addresses === undefined) {
    context.report(
      [...path, 'address'],
      'value',
      `must be an IP address, or a network such as 10.0.0.0/8, not ${quote(address)}`,
    );
  }
  return {
    ...(typeof initiator === 'string' && { initiator: prepareName(initiator) }),
    ...(addresses !== undefined && { addresses }),
    ...(Array.isArray(targets) && { targets: strings(targets) }),
  };
}

/** Addresses as they are looked up; undefined for what is none. */
function networkOf(text: string): AllowRule['addresses'] {
  const [address = '', prefix, more] = text.split('/');
  const family = isIP(address);
  const bitsMax = family === 6 ? 128 : 32;
  const bits = prefix === undefined ? bitsMax : Number(prefix);
  if (family === 0 || more !== undefined || !/^\d{1,3}$/.test(prefix ?? '0') || bits > bitsMax) return undefined;
  const list = new BlockList();
  list.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4');
  return { network: text, check: (from) => isIP(from) === family && list.check(from, family === 6 ? 'ipv6' : 'ipv4') };
}

/** The section `targets`. A short name is one of the default prefix. */
export function readTargets(value: unknown, isServed: boolean, context: SemanticContext): TargetConfig[] {
  const taken = new Map<string, KeyPath>();
  if (value !== undefined && !isServed) context.report(['targets'], 'key', 'needs the section iscsi, to be reached by');
  return Object.entries(mapping(value)).map(([name, target]) => readTarget(name, mapping(target), context, taken));
}

function readTarget(
  name: string,
  target: Mapping,
  context: SemanticContext,
  taken: Map<string, KeyPath>,
): TargetConfig {
  const path: KeyPath = ['targets', name];
  const { read_only: readOnly, block_size: blockBytes } = target;
  const full = prepareName(/^(iqn|eui|naa)\./i.test(name) ? name : `${PREFIX_DEFAULT}:${name}`);
  if (!isName(full)) context.report(path, 'key', `${quote(full)} is no iSCSI name; use letters, digits and - . :`);
  const luns = new Map<number, LunConfig>();
  for (const [lun, volume] of Object.entries(mapping(target.luns))) {
    if (typeof volume !== 'string') continue;
    const key = [...path, 'luns', lun];
    const other = taken.get(volume);
    if (other !== undefined) {
      context.report(
        key,
        'value',
        `the volume ${quote(volume)} is used twice, first in line ${context.place(other).line}`,
      );
    }
    taken.set(volume, key);
    luns.set(Number(lun), { volume, readOnly: readOnly === true });
  }
  return { name: full, luns, blockBytes: typeof blockBytes === 'number' ? blockBytes : BLOCK_BYTES_DEFAULT };
}
