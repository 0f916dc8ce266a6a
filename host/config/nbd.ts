import { resolve } from 'node:path';
import type { TlsConfig } from '../net/tls.ts';
import type { NbdPolicy } from './config.ts';
import type { SemanticContext } from './context.ts';
import type { KeyPath } from './problem.ts';

/** What an NBD listener's mapping says beside its address; undefined when that is nothing. */
export function readNbdPolicy(
  listener: Readonly<Record<string, unknown>>,
  path: KeyPath,
  context: SemanticContext,
): NbdPolicy | undefined {
  const { exports, default_export: defaultExport, read_only: readOnly, idle_timeout: idleSeconds, tls } = listener;
  const policy: NbdPolicy = {
    ...(Array.isArray(exports) && { exports: exports.filter((name) => typeof name === 'string') }),
    ...(typeof defaultExport === 'string' && { defaultExport }),
    ...(typeof readOnly === 'boolean' && { readOnly }),
    ...(typeof idleSeconds === 'number' && { idleMs: idleSeconds * 1000 }),
    ...(typeof tls === 'object' && tls !== null && { tls: readTls(tls, [...path, 'tls'], context) }),
  };
  return Object.keys(policy).length === 0 ? undefined : policy;
}

function readTls(tls: object, path: KeyPath, context: SemanticContext): TlsConfig {
  const values = tls as Readonly<Record<string, unknown>>;
  const file = (key: string) => {
    const value = values[key];
    return typeof value === 'string' ? resolve(context.directory, value) : undefined;
  };
  const config: TlsConfig = {
    mode: values.mode === 'optional' ? 'optional' : 'required',
    certificate: file('certificate'),
    key: file('key'),
    clientAuthority: file('client_authority'),
    psk: file('psk'),
  };
  if ((config.certificate === undefined) !== (config.key === undefined)) {
    context.report(path, 'value', 'certificate and key belong together');
  } else if (config.certificate === undefined && config.psk === undefined) {
    context.report(path, 'value', 'needs certificate and key, or psk');
  } else if (config.clientAuthority !== undefined && config.certificate === undefined) {
    context.report([...path, 'client_authority'], 'key', 'is only for a listener with a certificate');
  }
  return config;
}
