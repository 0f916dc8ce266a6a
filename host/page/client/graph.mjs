import { h } from './dom.mjs';
import { rate } from './format.mjs';

/** Points of a graph: one a second. */
export const POINTS = 120;
const SVG = 'http://www.w3.org/2000/svg';

/**
 * A graph of bytes read and written a second, over the last two minutes.
 * @param {{ width: number, height: number }} shape
 */
export function graph({ width, height }) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const curves = ['read', 'write'].map((kind) => {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', kind);
    svg.append(path);
    return path;
  });
  const most = h('span', { class: 'most', 'aria-hidden': 'true' });
  return {
    element: h('div', { class: 'graph' }, svg, most),
    /** @param {History} history */
    draw({ read, write }) {
      const top = Math.max(1, ...read, ...write);
      most.textContent = top > 1 ? rate(top) : '';
      for (const [i, values] of [read, write].entries()) {
        const step = width / (POINTS - 1);
        const from = POINTS - values.length;
        const points = values.map((value, at) => {
          const y = height - 1 - (value / top) * (height - 3);
          return `${((from + at) * step).toFixed(1)} ${y.toFixed(1)}`;
        });
        curves[i]?.setAttribute('d', points.length < 2 ? '' : `M${points.join('L')}`);
      }
      const last = (/** @type {number[]} */ values) => rate(values.at(-1) ?? 0);
      svg.setAttribute('aria-label', `reads ${last(read)}, writes ${last(write)}, at most ${rate(top)}`);
    },
  };
}

/** What was read and written a second, lately. */
export class History {
  /** @type {number[]} */
  read = [];
  /** @type {number[]} */
  write = [];

  /**
   * @param {number} read
   * @param {number} write
   */
  add(read, write) {
    this.read.push(read);
    this.write.push(write);
    if (this.read.length > POINTS) this.read.shift();
    if (this.write.length > POINTS) this.write.shift();
  }
}

/**
 * How fast a counter went up; 0 where it began anew.
 * @param {number | undefined} now
 * @param {number | undefined} before
 * @param {number} seconds
 */
export function speed(now, before, seconds) {
  if (now === undefined || seconds <= 0) return 0;
  return before === undefined ? 0 : Math.max(0, now - before) / seconds;
}
