import type { IscsiMetrics } from '../iscsi/metrics.ts';
import type { ConnectionMetrics } from '../volumes/client-connection.ts';
import { addCounts } from '../volumes/counts.ts';
import type { Families } from './family.ts';
import type { HostSample } from './host-sample.ts';

/** What the engines and the supervisor count of the clients of one listener. */
interface ClientCounts {
  readonly connections: ConnectionMetrics;
  readonly requests: Readonly<Record<string, number>>;
  readonly inFlight: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
}

type ByListener<T> = ReadonlyMap<string, T> | undefined;

/** Of NBD, iSCSI and HTTP clients, by listener. */
export function clientFamilies(f: Families, host: HostSample): void {
  const samples = host.engines.map(({ sample }) => sample).filter((sample) => sample !== undefined);
  const { supervisor } = host;
  const nbd = together(
    samples.map((sample) => sample.nbd),
    supervisor && { own: supervisor.nbd },
  );
  for (const [listener, counts] of nbd) protocolFamilies(f, { protocol: 'nbd', listener }, counts);
  const iscsi = together(
    samples.map((sample) => sample.iscsi),
    supervisor && { own: supervisor.iscsi },
  );
  for (const [listener, counts] of iscsi) {
    protocolFamilies(f, { protocol: 'iscsi', listener }, requestsOf(counts));
    for (const result of ['succeeded', 'failed'] as const)
      f.counter('zow_iscsi_logins_total', 'Logins, by how they ended.', counts.logins[result], { listener, result });
  }
  const { connections, requests, listener } = host.http;
  connectionFamilies(f, { protocol: 'http', listener }, connections);
  for (const [status, value] of requests)
    f.counter('zow_http_requests_total', 'Requests to this listener, by the status of the answer.', value, {
      status: String(status),
    });
}

function requestsOf({ commands, taskManagement, ...counts }: IscsiMetrics): ClientCounts {
  return { ...counts, requests: { ...commands, taskManagement } };
}

/** What all engines and the supervisor, where there is one, count. */
function together<T extends { readonly connections: ConnectionMetrics }>(
  engines: readonly ByListener<T>[],
  supervisor: { readonly own: ByListener<T> } | undefined,
): ReadonlyMap<string, T> {
  const sums = new Map<string, T>(supervisor?.own);
  for (const [listener, counts] of engines.flatMap((each) => [...(each ?? [])])) {
    const sum = sums.get(listener);
    // Of one that is closed an engine may know still.
    if (sum === undefined && supervisor !== undefined) continue;
    sums.set(listener, sum === undefined ? counts : addCounts(sum, counts));
  }
  for (const [listener, { connections }] of supervisor?.own ?? []) {
    const sum = sums.get(listener)!;
    // Clients of engines come by the supervisor, which has them on its list as well.
    const { open, total, refused } = connections;
    sums.set(listener, { ...sum, connections: { ...sum.connections, open, total, refused } });
  }
  return sums;
}

interface ListenerLabels extends Readonly<Record<string, string>> {
  readonly protocol: string;
  readonly listener: string;
}

function protocolFamilies(f: Families, labels: ListenerLabels, counts: ClientCounts): void {
  const { connections, bytesRead, bytesWritten } = counts;
  connectionFamilies(f, labels, connections);
  f.counter('zow_client_protocol_errors_total', 'Clients that broke the protocol.', connections.protocolErrors, labels);
  f.counter(
    'zow_client_stalled_total',
    'Clients that were cut for not taking their answers.',
    connections.stalled,
    labels,
  );
  for (const [request, value] of Object.entries(counts.requests))
    f.counter('zow_client_requests_total', 'Requests, by what they ask for.', value, {
      ...labels,
      request: snake(request),
    });
  f.gauge('zow_client_requests_in_flight', 'Requests that are not answered yet.', counts.inFlight, labels);
  for (const [direction, bytes] of [
    ['read', bytesRead],
    ['write', bytesWritten],
  ] as const)
    f.counter('zow_client_bytes_total', 'Data, without headers.', bytes, { ...labels, direction });
  f.counter('zow_client_errors_total', 'Answers that say that a request failed.', counts.errors, labels);
}

function connectionFamilies(
  f: Families,
  labels: ListenerLabels,
  { open, total, refused }: Pick<ConnectionMetrics, 'open' | 'total' | 'refused'>,
): void {
  f.gauge('zow_client_connections', 'Connections now.', open, labels);
  f.counter('zow_client_connections_total', 'Connections since the start.', total, labels);
  f.counter('zow_client_connections_refused_total', 'Connections beyond the bound.', refused, labels);
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
