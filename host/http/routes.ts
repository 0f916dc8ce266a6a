import { exposition } from '../metrics/exposition.ts';
import { familiesOf } from '../metrics/families.ts';
import { LabelSets } from '../metrics/family.ts';
import type { Health } from '../metrics/health.ts';
import { type HostSource, sampleHost } from '../metrics/host-sample.ts';
import { shared } from '../metrics/within.ts';
import { type Route, text } from './server.ts';

/** /healthz and /readyz: 200, or 503 and why not, one reason a line. */
export function healthRoutes(health: Health): [path: string, route: Route][] {
  return [
    ['/healthz', () => (health.dead === undefined ? text(200, 'ok') : text(503, health.dead))],
    [
      '/readyz',
      async () => {
        const reasons = await health.unready();
        return reasons.length === 0 ? text(200, 'ready') : text(503, reasons.join('\n'));
      },
    ],
  ];
}

/**
 * /metrics: OpenMetrics, or Prometheus' own text. Who asks while an answer is made gets the same sample of the host; each
 * format is written out once for it.
 */
export function metricsRoute(source: HostSource): [path: string, route: Route] {
  const sets = new LabelSets();
  const collect = shared(async () => familiesOf(await sampleHost(source), sets));
  return [
    '/metrics',
    async ({ headers }) => {
      const { type, text: body } = await exposition(await collect(), headers.accept ?? '');
      return { status: 200, type, body };
    },
  ];
}
