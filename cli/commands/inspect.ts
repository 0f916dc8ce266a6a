import type { HostClient } from '../../host/ioctl/client.ts';
import { QueryKind } from '../../host/ioctl/protocol.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { eventLine, poolEvents } from '../../host/observe/events.ts';
import {
  decodeKstat,
  type Kstat,
  kstatJson,
  kstatText,
  parseKstatPattern,
  statistics,
} from '../../host/observe/kstats.ts';
import { decodeTunables, findTunable, type Tunable, tunableJson } from '../../host/observe/tunables.ts';
import { type HostStatus, statusText } from '../../host/supervisor/status.ts';
import { show, withHost } from './host.ts';

export interface KstatOptions {
  readonly json?: boolean;
  readonly clear?: boolean;
}

/** `zow kstat`: kstats as text, as a kernel's /proc/spl/kstat has them, or as one JSON array. */
export function kstatCommand(socket: string | undefined, pattern: string, options: KstatOptions): Promise<number> {
  return withHost(socket, async (host) => {
    if (options.clear === true) {
      for await (const _ of host.query({ kind: QueryKind.kstatClear, text: pattern }));
      return;
    }
    const { statistic } = parseKstatPattern(pattern);
    let separator = '[\n';
    for await (const packed of host.query({ kind: QueryKind.kstats, text: pattern })) {
      const kstat = decodeKstat(packed);
      if (statistic !== undefined && !statistics(kstat).some(({ name }) => statistic(name))) continue;
      if (options.json === true) {
        show(`${separator}${JSON.stringify(kstatJson(kstat, statistic))}`);
        separator = ',\n';
      } else {
        show(statistic === undefined ? kstatFile(kstat, pattern) : statisticLines(kstat, statistic));
      }
    }
    if (options.json === true) show(separator === ',\n' ? '\n]\n' : '[]\n');
  });
}

/** The file, under its name unless it is the only one that was asked for. */
function kstatFile(kstat: Kstat, pattern: string): string {
  const text = kstatText(kstat);
  return kstat.path === pattern ? text : `==> ${kstat.path} <==\n${text}\n`;
}

/** `zfs/arcstats:hits<TAB>123`. */
function statisticLines(kstat: Kstat, keep: (name: string) => boolean): string {
  return statistics(kstat)
    .filter(({ name }) => keep(name))
    .map(({ name, value }) => `${kstat.path}:${name}\t${value}\n`)
    .join('');
}

export interface TunableOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** `zow tunable`: shows those that are named, or all, and sets those with a value, in their order. */
export function tunableCommand(
  socket: string | undefined,
  args: readonly string[],
  options: TunableOptions,
): Promise<number> {
  return withHost(socket, async (host) => {
    const shown: Tunable[] = [];
    for (const arg of args) {
      if (arg.includes('=')) {
        for await (const _ of host.query({ kind: QueryKind.tunableSet, text: arg }));
      } else {
        shown.push(findTunable(await listTunables(host), arg));
      }
    }
    if (args.length === 0) shown.push(...(await listTunables(host)));
    if (options.json === true) {
      if (shown.length > 0) show(`[\n${shown.map((tunable) => JSON.stringify(tunableJson(tunable))).join(',\n')}\n]\n`);
    } else {
      for (const tunable of shown) show(tunableLine(tunable, options.verbose === true));
    }
  });
}

async function listTunables(host: HostClient): Promise<Tunable[]> {
  const all: Tunable[] = [];
  for await (const packed of host.query({ kind: QueryKind.tunables, text: '' })) all.push(...decodeTunables(packed));
  return all;
}

function tunableLine({ name, value, type, writable, description }: Tunable, verbose: boolean): string {
  const more = verbose ? `\n    ${type}${writable ? '' : ', read only'}: ${description.replaceAll(/\s+/g, ' ')}` : '';
  return `${name}=${value}${more}\n`;
}

export interface EventsOptions {
  readonly follow?: boolean;
  /** An eid, and the seconds of its event's time. */
  readonly after?: readonly [eid: number, seconds: number | undefined];
}

/** `zow status`: the engines and the pools that were lost, as a table or as JSON. */
export function statusCommand(socket: string | undefined, { json }: { readonly json?: boolean }): Promise<number> {
  return withHost(socket, async (host) => {
    for await (const packed of host.query({ kind: QueryKind.status, text: '' })) {
      const text = String(decodeNativeNvlist(packed).get('json'));
      show(json === true ? `${text}\n` : statusText(JSON.parse(text) as HostStatus));
    }
  });
}

/** `zow events`: the pools' events, one JSON object a line. */
export function eventsCommand(socket: string | undefined, { follow, after }: EventsOptions): Promise<number> {
  return withHost(socket, async (host) => {
    for await (const event of poolEvents(host, { follow, after: after?.[0], afterSeconds: after?.[1] }))
      show(`${eventLine(event)}\n`);
  });
}
