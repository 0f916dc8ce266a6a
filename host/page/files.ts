/** Files of client/, as browsers get them. */
export const PAGE_FILES = [
  'index.html',
  'page.css',
  'icon.svg',
  'page.mjs',
  'act.mjs',
  'dom.mjs',
  'format.mjs',
  'graph.mjs',
  'others.mjs',
  'pools.mjs',
  'volumes.mjs',
] as const;
