import { resolve } from 'node:path';
import { readTcpAddress, type TakeAddress } from './address.ts';
import type { HttpConfig } from './config.ts';
import type { SemanticContext } from './context.ts';
import type { KeyPath } from './problem.ts';

const EXPOSED =
  'whoever reaches the port sees the names and the use of all pools and volumes; use 127.0.0.1 or a unix socket, or add allow_remote: true';

/** Checks the path of a unix socket, and that nothing else has it. */
export type CheckSocket = (path: string, key: KeyPath) => void;

/** The section `http`; undefined where there is none, and for what the schema has refused. */
export function readHttp(
  value: unknown,
  context: SemanticContext,
  take: TakeAddress,
  checkSocket: CheckSocket,
): HttpConfig | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { listen, unix, allow_remote: allowRemote, hosts, token } = value as Readonly<Record<string, unknown>>;
  const common = {
    hosts: (Array.isArray(hosts) ? hosts : [])
      .filter((name) => typeof name === 'string')
      .map((name) => name.toLowerCase()),
    token: typeof token === 'string' && token !== '' ? resolve(context.directory, token) : undefined,
  };
  if (typeof unix === 'string' && unix !== '') {
    const path = resolve(context.directory, unix);
    checkSocket(path, ['http', 'unix']);
    if (allowRemote !== undefined) context.report(['http', 'allow_remote'], 'key', 'is only for listen');
    return { kind: 'unix', path, ...common };
  }
  const exposed = allowRemote === true ? undefined : EXPOSED;
  const address = readTcpAddress(listen, ['http', 'listen'], exposed, context, take);
  if (address === undefined) return undefined;
  return { kind: 'tcp', address, allowRemote: allowRemote === true, ...common };
}
