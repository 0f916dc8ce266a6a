import { isIP } from 'node:net';
import { isLoopback } from '../net/listener.ts';
import type { SemanticContext } from './context.ts';
import { type KeyPath, quote } from './problem.ts';

/** Notes an address as used, or reports that it is used twice. */
export type TakeAddress = (id: string, what: string, key: KeyPath) => void;

/** An address and a port, as the schema lets them pass. */
const ADDRESS = /^(\[[0-9a-f:.]+\]|[^:[\]]+):\d{1,5}$/i;

/**
 * Reads `host:port` or `[address]:port`, in lower case; undefined for what the schema has refused. Reports a wrong port, a
 * wrong IP address and an address that is used twice, and with `exposed` one that other machines can reach: that says why
 * it must not be so, and what to do.
 */
export function readTcpAddress(
  value: unknown,
  key: KeyPath,
  exposed: string | undefined,
  context: SemanticContext,
  take: TakeAddress,
): string | undefined {
  if (typeof value !== 'string' || !ADDRESS.test(value)) return undefined;
  const address = value.toLowerCase();
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  if (port > 65535) context.report(key, 'value', `a port is at most 65535, not ${port}`);
  if ((address.startsWith('[') && isIP(host) !== 6) || (/^[\d.]+$/.test(host) && isIP(host) !== 4)) {
    context.report(key, 'value', `${quote(host)} is no IP address`);
  } else if (exposed !== undefined && !isLoopback(host)) {
    context.report(key, 'value', `${quote(value)}: other machines can reach it, and ${exposed}`);
  }
  if (port !== 0) take(`tcp:${host}:${port}`, `the listener ${quote(value)}`, key);
  return address;
}
