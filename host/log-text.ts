import { styleText } from 'node:util';

/** What a level is called, and how it looks. */
const LEVELS: Readonly<Record<number, readonly [name: string, style: Parameters<typeof styleText>[0]]>> = {
  10: ['trace', 'gray'],
  20: ['debug', 'gray'],
  30: ['info', 'green'],
  40: ['warn', 'yellow'],
  50: ['error', 'red'],
  60: ['fatal', ['red', 'bold']],
};
const LEVEL_ERROR = 50;
/** Said by other columns, or the same in every line. */
const UNSAID: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'err', 'detail']);

/**
 * A log entry, a line of pino's JSON, for people: time, level, what happened, and what with. Undefined for one that is a detail
 * (`detail: true`) unless details are wanted.
 */
export function logText(
  line: string,
  options: { readonly details: boolean; readonly color: boolean },
): string | undefined {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line);
  } catch {
    return line;
  }
  if (entry.detail === true && !options.details) return undefined;
  const style: typeof styleText = options.color
    ? (format, text) => styleText(format, text, { validateStream: false })
    : (_, text) => text;
  const level = Number(entry.level);
  const [name, look] = LEVELS[level] ?? ['info', 'green'];
  const members = Object.entries(entry)
    .filter(([key, value]) => !UNSAID.has(key) && value !== undefined)
    .map(([key, value]) => `${style('gray', `${key}=`)}${valueText(value)}`);
  const words = [style('gray', clock(entry.time)), style(look, name.padEnd(5)), String(entry.msg ?? ''), ...members];
  return `${words.join(' ')}${errorText(entry.err, level)}\n`;
}

/** In local time: a terminal shows what goes on now. */
function clock(time: unknown): string {
  const date = new Date(time as string);
  return Number.isNaN(date.getTime()) ? '' : date.toTimeString().slice(0, 8);
}

function valueText(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object'))
    return value.map(valueText).join(',') || '-';
  return JSON.stringify(value);
}

/** Why; where in the program, too, when that is all there is to go by. */
function errorText(error: unknown, level: number): string {
  if (typeof error !== 'object' || error === null) return '';
  const { message, stack } = error as { message?: unknown; stack?: unknown };
  if (level < LEVEL_ERROR || typeof stack !== 'string') return `: ${String(message)}`;
  return `: ${stack.split('\n').join('\n    ')}`;
}
