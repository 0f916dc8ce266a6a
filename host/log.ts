import { pino } from 'pino';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const wanted = process.env.ZOW_LOG ?? '';

/**
 * Structured logs: one JSON object a line on stderr, level by ZOW_LOG (info without it, or when it is no level). A
 * terminal user reads them as they are; collectors parse them.
 */
export const log = pino(
  {
    level: levels.includes(wanted) ? wanted : 'info',
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  },
  pino.destination({ fd: 2, sync: true }),
);

export type Logger = typeof log;

const traced = new Set((process.env.ZOW_TRACE ?? '').split(',').filter((area) => area !== ''));

/**
 * Tracing is a switch: `ZOW_TRACE=ioctl,device,fiber,nbd,wasi`. Returns undefined when the area is off, so that a call
 * site costs one comparison: `trace?.({ … }, 'read')`.
 */
export function tracer(area: string): ((fields: object, message: string) => void) | undefined {
  if (!traced.has(area) && !traced.has('all')) return undefined;
  const logger = log.child({ trace: area }, { level: 'trace' });
  return (fields, message) => logger.trace(fields, message);
}
