import { setImmediate as nextTurn } from 'node:timers/promises';
import { Gauge, type MetricObjectWithValues, type MetricValue, Registry, type RegistryContentType } from 'prom-client';
import type { Family } from './family.ts';

/** How long is written before others have their turn, milliseconds. */
const TURN_MS = 2;
const OPENMETRICS = 'application/openmetrics-text';

/** A family whose samples are there already, of whatever type: the registry asks `get` for what it writes. */
class Collected extends Gauge {
  readonly #family: Family;
  readonly #isOpenMetrics: boolean;

  constructor(family: Family, isOpenMetrics: boolean) {
    const { name, help } = family;
    super({ name, help, registers: [] });
    this.#family = family;
    this.#isOpenMetrics = isOpenMetrics;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValue<string>>> {
    const { name, help, type, samples } = this.#family;
    // OpenMetrics names a counter without the suffix of its samples, which the registry then puts on.
    const bare = this.#isOpenMetrics && type === 'counter' ? name.replace(/_total$/, '') : name;
    // The declarations know MetricType as an enum that does not exist when it runs.
    const metric = { name: bare, help, type, aggregator: 'sum', values: samples };
    return metric as unknown as MetricObjectWithValues<MetricValue<string>>;
  }
}

/** The families as text: OpenMetrics for who accepts it, else Prometheus' own format. */
export async function exposition(families: readonly Family[], accept: string): Promise<{ type: string; text: string }> {
  const isOpenMetrics = accept.includes(OPENMETRICS);
  const contentType = isOpenMetrics ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE;
  const registry = new Registry<RegistryContentType>();
  registry.setContentType(contentType);
  for (const family of families) registry.registerMetric(new Collected(family, isOpenMetrics));
  const parts: string[] = [];
  let turn = performance.now();
  // As registry.metrics(), but others have their turn in between: a host of a thousand volumes has a megabyte of it.
  for (const { name } of families) {
    parts.push(await registry.getSingleMetricAsString(name));
    if (performance.now() - turn < TURN_MS) continue;
    await nextTurn();
    turn = performance.now();
  }
  const text = isOpenMetrics ? `${parts.join('\n')}\n# EOF\n` : `${parts.join('\n\n')}\n`;
  return { type: registry.contentType, text };
}
