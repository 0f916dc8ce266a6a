import type { Health } from '../metrics/health.ts';
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
