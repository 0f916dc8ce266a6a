import { seededRandom } from '../../host/devices/faulty/faults.ts';
import { Overlay } from './overlay.ts';
import type { DiskEvent, Recording } from './record.ts';

/**
 * The fault model of a power cut. A disk has a volatile cache: a write that was completed before a flush was issued is
 * on the disk when that flush has completed. Everything else that was issued is in flight: any subset of it can have
 * reached the disk, in any order that its own moments allow (a write takes effect between when it was issued and when it
 * was completed), whole, or torn: sector by sector. The disks of a pool lose their caches independently. Of a trim the
 * range holds anything until it is written again: what was there, zeroes, or something else.
 */
const sectorBytes = 512;

/** Which of what was in flight reached a disk. */
export const survivals = ['none', 'all', 'oldest', 'newest', 'few', 'half', 'most', 'torn'] as const;
export type Survival = (typeof survivals)[number];

/** One disk of a recording, as a power cut at one moment after the other would leave it. */
export class Image {
  readonly disk: string;
  /** What is on the disk for certain, at the moment of the last `advance`. */
  readonly base: Uint8Array;
  /** Changes in the order in which they became certain. */
  readonly #changes: readonly Change[];
  readonly #byIssue: readonly Change[];
  #certain = 0;

  /** With `lies` a flush does nothing but what was left to do by the one before the last. */
  constructor(disk: string, bytes: number, events: readonly DiskEvent[], { lies = false } = {}) {
    this.disk = disk;
    this.base = new Uint8Array(bytes);
    const own = events.filter((event) => event.disk === disk);
    const flushes = own.filter(({ operation }) => operation === 'flush');
    const changes = own
      .filter(({ operation }) => operation !== 'flush')
      .map((event) => ({ event, certain: certainty(event, flushes, lies ? 2 : 0) }));
    this.#byIssue = changes;
    this.#changes = [...changes].sort((a, b) => a.certain - b.certain || completion(a.event) - completion(b.event));
  }

  /** Goes on to a later moment. */
  advance(moment: number): void {
    for (; this.#certain < this.#changes.length; this.#certain++) {
      const { event, certain } = this.#changes[this.#certain]!;
      if (certain > moment) break;
      if (event.operation === 'write') this.base.set(event.data.subarray(0, event.length), event.offset);
      else this.base.fill(0, event.offset, event.offset + event.length);
    }
  }

  /** What was issued by `moment` and may or may not have reached the disk. */
  inFlight(moment: number): DiskEvent[] {
    return this.#byIssue
      .filter(({ event, certain }) => event.issued < moment && certain > moment)
      .map(({ event }) => event);
  }

  /** The disk after a power cut at `moment`, to which it has advanced. */
  cut(moment: number, survival: Survival, random: () => number): Overlay {
    const overlay = new Overlay(this.base);
    land(overlay, this.inFlight(moment), moment, survival, random);
    return overlay;
  }
}

/** A disk that had `before` when the recording of `events` began, after a power cut at `moment`. */
export function cutAgain(
  before: Overlay,
  events: readonly DiskEvent[],
  moment: number,
  survival: Survival,
  random: () => number,
): Overlay {
  const overlay = before.clone();
  const flushes = events.filter(({ operation }) => operation === 'flush');
  const changes = events.filter(({ operation, issued }) => operation !== 'flush' && issued < moment);
  const isCertain = (event: DiskEvent) => certainty(event, flushes, 0) < moment;
  land(overlay, changes.filter(isCertain), moment, 'all', random);
  land(
    overlay,
    changes.filter((event) => !isCertain(event)),
    moment,
    survival,
    random,
  );
  return overlay;
}

/** Applies what survives of the changes in flight at `moment`. */
function land(
  overlay: Overlay,
  inFlight: readonly DiskEvent[],
  moment: number,
  survival: Survival,
  random: () => number,
): void {
  const flying = inFlight.map((event) => ({
    event,
    effect: event.issued + random() * (Math.min(moment, completion(event)) - event.issued),
  }));
  flying.sort((a, b) => a.effect - b.effect);
  const turning = random() * flying.length;
  for (const [i, { event }] of flying.entries()) {
    for (const { offset, length } of survival === 'torn' ? sectors(event) : [event]) {
      if (survives(survival, i, turning, random)) apply(overlay, event, offset, length, random);
    }
  }
}

interface Change {
  readonly event: DiskEvent;
  /** When it is on the disk for certain. */
  readonly certain: number;
}

function completion({ completed }: DiskEvent): number {
  return completed ?? Number.POSITIVE_INFINITY;
}

/** When the first flush that covers an event has completed, or one of the `late` flushes after it. */
function certainty(event: DiskEvent, flushes: readonly DiskEvent[], late: number): number {
  const covering = flushes.filter(({ issued }) => issued > completion(event)).map(completion);
  return covering.sort((a, b) => a - b)[late] ?? Number.POSITIVE_INFINITY;
}

function survives(survival: Survival, index: number, turning: number, random: () => number): boolean {
  switch (survival) {
    case 'none':
      return false;
    case 'all':
      return true;
    case 'oldest':
      return index < turning;
    case 'newest':
      return index >= turning;
    case 'few':
      return random() < 0.1;
    case 'most':
      return random() < 0.9;
    default:
      return random() < 0.5;
  }
}

function* sectors({ offset, length }: DiskEvent): Generator<{ offset: number; length: number }> {
  for (let at = offset; at < offset + length; ) {
    const end = Math.min(offset + length, at + sectorBytes - (at % sectorBytes));
    yield { offset: at, length: end - at };
    at = end;
  }
}

function apply(overlay: Overlay, event: DiskEvent, offset: number, length: number, random: () => number): void {
  if (event.operation === 'write') {
    const start = offset - event.offset;
    overlay.write(event.data.subarray(start, start + length), offset);
  } else {
    overlay.fill(event.operation === 'trim' && random() < 0.5 ? 0xa5 : 0, offset, length);
  }
}

/** One power cut; `seed` decides all that is left to chance. */
export interface State {
  readonly moment: number;
  readonly survival: Survival;
  readonly seed: number;
  /** The power is cut a second time, in the middle of the import. */
  readonly twice: boolean;
}

/**
 * `count` states of a recording, by moment. Two of three are at the end of a flush, in turn just before and just after it,
 * spread over all flushes; the others are anywhere.
 */
export function states({ events, from, to }: Recording, count: number, seed: number): State[] {
  const random = seededRandom(seed);
  const ends = events
    .filter(({ operation, completed = -1 }) => operation === 'flush' && completed > from && completed < to)
    .map(({ completed }) => completed!);
  const atFlushes = Math.floor((count * 2) / 3);
  const chosen = Array.from({ length: count }, (_, i): State => {
    const end = i < atFlushes ? ends[Math.floor((i * ends.length) / atFlushes)] : undefined;
    const moment = end === undefined ? from + Math.floor(random() * (to - from)) : end - ((i + seed) % 2);
    // Between two moments of the clock.
    return {
      moment: moment + 0.5,
      survival: survivals[Math.floor(random() * survivals.length)]!,
      seed: seed + i,
      twice: i % 4 === 3,
    };
  });
  return chosen.sort((a, b) => a.moment - b.moment);
}
