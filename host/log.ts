import { isatty } from 'node:tty';
import { pino } from 'pino';
import { LogStream } from './log-stream.ts';
import { logText } from './log-text.ts';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const wanted = process.env.ZOW_LOG ?? '';
const STDERR = 2;

/** `text`: lines for people; `json`: an object a line, for programs. `auto`: text on a terminal. */
export type LogFormat = 'auto' | 'text' | 'json';

let isText = isatty(STDERR);

/** Chooses what lines look like from now on. */
export function setLogFormat(format: LogFormat): void {
  isText = format === 'auto' ? isatty(STDERR) : format === 'text';
}

const stream = new LogStream(STDERR, (lines) => log.warn({ lines }, 'lines of the log were dropped: nobody read them'));

/** pino's lines as they are, or for people. Whoever read them may be gone, a terminal that was closed for one: the host goes on. */
const destination = {
  write(line: string): void {
    if (!isText) {
      stream.write(line);
      return;
    }
    const { NO_COLOR = '' } = process.env;
    const text = logText(line, {
      details: log.isLevelEnabled('debug'),
      color: NO_COLOR === '' && isatty(STDERR),
    });
    if (text !== undefined) stream.write(text);
  },
};

/**
 * Structured logs on stderr, level by ZOW_LOG (info without it, or when it is no level): lines for people on a terminal, else one
 * JSON object a line. An entry with `detail: true` is left out of the lines for people unless debug is on.
 */
export const log = pino(
  {
    level: levels.includes(wanted) ? wanted : 'info',
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  },
  destination,
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
