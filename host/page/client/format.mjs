const UNITS = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/**
 * As zpool and zfs write sizes: 19.8M.
 * @param {number} bytes
 */
export function size(bytes) {
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < UNITS.length - 1; unit++) value /= 1024;
  if (unit === 0) return String(Math.round(value));
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return `${value.toFixed(digits)}${UNITS[unit]}`;
}

/** @param {number} bytes a second */
export function rate(bytes) {
  return bytes < 0.5 ? '0' : `${size(bytes)}/s`;
}

/** @param {number} count */
export function number(count) {
  return count < 10 && count % 1 !== 0 ? count.toFixed(1) : Math.round(count).toLocaleString('en');
}

/** @param {number} part 0 to 1 */
export function percent(part) {
  const value = part * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : Math.floor(value)}%`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** @param {number} seconds */
export function latency(seconds) {
  const ms = seconds * 1000;
  return `${ms.toFixed(ms < 1 ? 2 : ms < 10 ? 1 : 0)} ms`;
}

const dates = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const times = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

/** @param {number} seconds Unix time */
export function date(seconds) {
  const then = new Date(seconds * 1000);
  return then.toDateString() === new Date().toDateString() ? times.format(then) : dates.format(then);
}
