// Where this machine gets its Debian packages from, read from apt's own configuration.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Entry {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** The entry as written: its Signed-By tells Debian's archive from others. */
  readonly text: string;
}

/** One-line style: `deb [options] uri suite component...` (sources.list(5)). */
function parseList(text: string): Entry[] {
  const entries: Entry[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) {
      continue;
    }
    entries.push({ uris: [match[1]!], suites: [match[2]!], components: words(match[3]!), text: line });
  }
  return entries;
}

/** deb822 style: stanzas of `Field: value` with continuation lines (sources.list(5)). */
function parseDeb822(text: string): Entry[] {
  const entries: Entry[] = [];
  for (const stanza of text.replaceAll(/^#.*\n?/gm, '').split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    for (const match of stanza.matchAll(/^([\w-]+):(.*(?:\n[ \t].*)*)/gm)) {
      fields.set(match[1]!.toLowerCase(), match[2]!);
    }
    if (fields.get('enabled')?.trim().toLowerCase() === 'no' || !fields.has('uris')) {
      continue;
    }
    entries.push({
      uris: words(fields.get('uris')!),
      suites: words(fields.get('suites') ?? ''),
      components: words(fields.get('components') ?? ''),
      text: stanza,
    });
  }
  return entries;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function readEntries(etc: string): Entry[] {
  const entries: Entry[] = [];
  const take = (file: string): void => {
    const parse = file.endsWith('.sources') ? parseDeb822 : parseList;
    try {
      entries.push(...parse(readFileSync(file, 'utf8')));
    } catch {
      // A missing or unreadable list is no list.
    }
  };
  take(join(etc, 'sources.list'));
  let parts: string[] = [];
  try {
    parts = readdirSync(join(etc, 'sources.list.d')).sort();
  } catch {
    // apt works without the directory too.
  }
  for (const part of parts.filter((name) => /\.(list|sources)$/.test(name))) {
    take(join(etc, 'sources.list.d', part));
  }
  return entries;
}

/**
 * Base URIs of the Debian mirrors that apt is configured with in `etc` (normally `/etc/apt`), most likely first, no trailing
 * slash. A mirror's pool holds the files of all suites, so a machine on any Debian release finds every tarball. Security
 * archives and vendors' own repositories have another pool and are left out.
 */
export function debianMirrors(etc = '/etc/apt'): string[] {
  const likely: string[] = [];
  const possible: string[] = [];
  for (const entry of readEntries(etc)) {
    const isArchive = entry.components.includes('main') && !entry.suites.every((suite) => suite.endsWith('-security'));
    if (!isArchive) {
      continue;
    }
    for (const uri of entry.uris.filter((candidate) => /^https?:\/\//.test(candidate))) {
      const base = uri.replace(/\/+$/, '');
      const isDebian = entry.text.includes('debian-archive') || base.endsWith('/debian');
      (isDebian ? likely : possible).push(base);
    }
  }
  // A repository that only might be a mirror is asked when none is known to be one.
  return [...new Set(likely.length > 0 ? likely : possible)];
}
