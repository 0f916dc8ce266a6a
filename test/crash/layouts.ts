export interface Layout {
  /** The grammar of `zpool create`; names of disks are single letters. */
  readonly vdevs: readonly string[];
  /** Dataset that holds the volumes. */
  readonly parent: string;
  readonly encrypted: boolean;
  /** Disks whose flush fails for a while, forgetting a part of what it was to flush. */
  readonly failing?: Failing;
}

export interface Failing {
  readonly disks: readonly string[];
  /** Whether others have the data: the pool then goes on, and a scrub may repair the disk. */
  readonly redundant: boolean;
  /** Whether somebody mends it and runs `zpool clear`; otherwise it is left as it is. */
  readonly cleared: boolean;
}

const lost = { disks: ['a'], redundant: false, cleared: true };
const aside = { ...lost, redundant: true };

const tank = { parent: 'tank', encrypted: false };

/** The pools whose power cuts are explored. */
export const layouts = {
  single: { ...tank, vdevs: ['a'] },
  mirror: { ...tank, vdevs: ['mirror', 'a', 'b'] },
  raidz1: { ...tank, vdevs: ['raidz1', 'a', 'b', 'c'] },
  log: { ...tank, vdevs: ['a', 'log', 'l'] },
  encrypted: { vdevs: ['a'], parent: 'tank/enc', encrypted: true },
  'flush-single': { ...tank, vdevs: ['a'], failing: lost },
  'flush-left': { ...tank, vdevs: ['a'], failing: { ...lost, cleared: false } },
  'flush-stripe': { ...tank, vdevs: ['a', 'b'], failing: lost },
  'flush-log': { ...tank, vdevs: ['a', 'log', 'l'], failing: { ...aside, disks: ['l'] } },
  'flush-mirror': { ...tank, vdevs: ['mirror', 'a', 'b'], failing: aside },
  'flush-raidz1': { ...tank, vdevs: ['raidz1', 'a', 'b', 'c'], failing: aside },
} satisfies Record<string, Layout>;

export type LayoutName = keyof typeof layouts;

export function isLayoutName(name: string): name is LayoutName {
  return Object.hasOwn(layouts, name);
}

/** What fails in a layout; nothing in most. */
export function failingOf(name: LayoutName): Failing | undefined {
  const layout: Layout = layouts[name];
  return layout.failing;
}

export function disksOf({ vdevs }: Layout): string[] {
  return vdevs.filter((vdev) => vdev.length === 1);
}
