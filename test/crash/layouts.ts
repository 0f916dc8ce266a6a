export interface Layout {
  /** The grammar of `zpool create`; names of disks are single letters. */
  readonly vdevs: readonly string[];
  /** Dataset that holds the volumes. */
  readonly parent: string;
  readonly encrypted: boolean;
}

const tank = { parent: 'tank', encrypted: false };

/** The pools whose power cuts are explored. */
export const layouts = {
  single: { ...tank, vdevs: ['a'] },
  mirror: { ...tank, vdevs: ['mirror', 'a', 'b'] },
  raidz1: { ...tank, vdevs: ['raidz1', 'a', 'b', 'c'] },
  log: { ...tank, vdevs: ['a', 'log', 'l'] },
  encrypted: { vdevs: ['a'], parent: 'tank/enc', encrypted: true },
} satisfies Record<string, Layout>;

export type LayoutName = keyof typeof layouts;

export function isLayoutName(name: string): name is LayoutName {
  return Object.hasOwn(layouts, name);
}

export function disksOf({ vdevs }: Layout): string[] {
  return vdevs.filter((vdev) => vdev.length === 1);
}
