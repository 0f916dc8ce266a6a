import type { IscsiMetrics } from '../iscsi/metrics.ts';
import type { ConnectionMetrics } from '../volumes/client-connection.ts';
import type { Families } from './family.ts';
import type { HostSample } from './host-sample.ts';

/** What the engines and the supervisor count of one protocol, as one. */
interface ProtocolCounts {
  readonly connections: ConnectionMetrics;
  readonly requests: Readonly<Record<string, number>>;
  readonly inFlight: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
}

/** Of NBD, iSCSI and HTTP clients. */
export function clientFamilies(f: Families, host: HostSample): void {
  const samples = host.engines.map(({ sample }) => sample).filter((sample) => sample !== undefined);
  const { supervisor } = host;
  const nbd = together(
    samples.map((sample) => sample.nbd),
    supervisor && { own: supervisor.nbd },
  );
  if (nbd !== undefined) protocolFamilies(f, 'nbd', nbd);
  const iscsi = together(
    samples.map((sample) => sample.iscsi && requestsOf(sample.iscsi)),
    supervisor && { own: supervisor.iscsi && requestsOf(supervisor.iscsi) },
  );
  if (iscsi !== undefined) {
    protocolFamilies(f, 'iscsi', iscsi);
    for (const result of ['succeeded', 'failed'] as const)
      f.counter('zow_iscsi_logins_total', 'Logins, by how they ended.', iscsi.logins[result], { result });
  }
  const { connections, requests } = host.http;
  connectionFamilies(f, 'http', connections);
  for (const [status, value] of requests)
    f.counter('zow_http_requests_total', 'Requests to this listener, by the status of the answer.', value, {
      status: String(status),
    });
}

function requestsOf({ commands, taskManagement, ...counts }: IscsiMetrics) {
  return { ...counts, requests: { ...commands, taskManagement } };
}

/** What all engines and the supervisor, where there is one, count; undefined: nothing listens. */
function together<T extends ProtocolCounts>(
  engines: readonly (T | undefined)[],
  supervisor: { readonly own: T | undefined } | undefined,
): T | undefined {
  const counts = engines.filter((metrics) => metrics !== undefined);
  if (supervisor === undefined) return counts.length === 0 ? undefined : counts.reduce(add);
  const { own } = supervisor;
  if (own === undefined) return undefined;
  const sum = counts.reduce(add, own);
  // Clients of engines come by the supervisor, which has them on its list as well.
  const { open, total, refused } = own.connections;
  return { ...sum, connections: { ...sum.connections, open, total, refused } };
}

/** Two records, of numbers and of records of them, with the same names. */
function add<T extends object>(a: T, b: T): T {
  const other = b as Readonly<Record<string, number | object>>;
  const sums = Object.entries(a as Readonly<Record<string, number | object>>).map(([name, value]) => {
    const more = other[name]!;
    return [name, typeof value === 'number' ? value + (more as number) : add(value, more as object)];
  });
  return Object.fromEntries(sums) as T;
}

function protocolFamilies(f: Families, protocol: string, counts: ProtocolCounts): void {
  const { connections } = counts;
  connectionFamilies(f, protocol, connections);
  f.counter('zow_client_protocol_errors_total', 'Clients that broke the protocol.', connections.protocolErrors, {
    protocol,
  });
  f.counter('zow_client_stalled_total', 'Clients that were cut for not taking their answers.', connections.stalled, {
    protocol,
  });
  for (const [request, value] of Object.entries(counts.requests))
    f.counter('zow_client_requests_total', 'Requests, by what they ask for.', value, {
      protocol,
      request: snake(request),
    });
  f.gauge('zow_client_requests_in_flight', 'Requests that are not answered yet.', counts.inFlight, { protocol });
  f.counter('zow_client_bytes_total', 'Data, without headers.', counts.bytesRead, { protocol, direction: 'read' });
  f.counter('zow_client_bytes_total', 'Data, without headers.', counts.bytesWritten, { protocol, direction: 'write' });
  f.counter('zow_client_errors_total', 'Answers that say that a request failed.', counts.errors, { protocol });
}

function connectionFamilies(
  f: Families,
  protocol: string,
  { open, total, refused }: Pick<ConnectionMetrics, 'open' | 'total' | 'refused'>,
): void {
  f.gauge('zow_client_connections', 'Connections now.', open, { protocol });
  f.counter('zow_client_connections_total', 'Connections since the start.', total, { protocol });
  f.counter('zow_client_connections_refused_total', 'Connections beyond the bound.', refused, { protocol });
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
