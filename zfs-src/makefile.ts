// Turns a plan into files that make understands.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Group, Plan } from './plan.ts';
import { BuildError } from './releases.ts';

/** The file of the object that `group` makes from `source`. */
export function objectFile(plan: Plan, group: Group, source: string): string {
  const prefix = plan.prefixes.find((candidate) => source.startsWith(candidate)) ?? '';
  return `${plan.folder}/obj/${group.name}/${source.slice(prefix.length).replace(/\.[cS]$/, '.o')}`;
}

/** Quotes words for a compiler's or linker's response file, which both gcc and clang read as a shell would. */
function responseFile(words: readonly string[]): string {
  return words.map((word) => `${/["\\\s']/.test(word) ? `"${word.replaceAll(/["\\]/g, '\\$&')}"` : word}\n`).join('');
}

/** Writes a file only when its content changes, so that make sees a change only where there is one. */
export function writeIfChanged(file: string, content: string): void {
  if (existsSync(file) && readFileSync(file, 'utf8') === content) {
    return;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

/** Every output appears by renaming, so that an interrupted or failed command leaves no half-written one. */
function produce(output: string, command: string): string {
  return `\t@${command} && mv -f ${output}.tmp ${output} || { rm -f ${output}.tmp; exit 1; }\n`;
}

/** Writes `build.mk`, with flags files beside it, below `root`; returns its path relative to `root`. */
export function writeMakefile(root: string, plan: Plan): string {
  for (const [name, content] of plan.headers) {
    writeIfChanged(join(root, plan.folder, name), content);
  }
  const text: string[] = ['.DELETE_ON_ERROR:\n.SUFFIXES:\n'];
  const folders = new Set<string>();
  const objects = new Map<string, string[]>();
  const depfiles: string[] = [];
  text.push(`all: ${plan.links.map((link) => link.file).join(' ')}\n`);
  for (const group of plan.groups) {
    const flags = `${plan.folder}/flags/${group.name}`;
    writeIfChanged(join(root, flags), responseFile(group.flags));
    writeIfChanged(
      join(root, `${flags}.stamp`),
      `${group.compiler}\n${plan.fingerprint}\n${responseFile(group.flags)}`,
    );
    const own: string[] = [];
    const compiler = [group.compiler, ...(group.placeFlags ?? [])].join(' ');
    for (const source of group.sources) {
      const object = objectFile(plan, group, source);
      const depfile = object.replace(/o$/, 'd');
      own.push(object);
      depfiles.push(depfile);
      folders.add(dirname(object));
      const command = `${compiler} @${flags} -MD -MP -MF ${depfile} -MT ${object} -c ${source} -o ${object}.tmp`;
      text.push(`${object}: ${source} ${flags}.stamp\n${produce(object, command)}`);
    }
    if (new Set(own).size !== own.length) {
      throw new BuildError(`two sources of ${group.name} have the same object file`);
    }
    objects.set(group.name, own);
  }
  const objectsOf = (groups: readonly string[]): string[] =>
    groups.flatMap((name) => objects.get(name) ?? unknown(name));
  for (const archive of plan.archives) {
    // The list is a dependency of its own: a source that is taken away must leave the archive too.
    const list = `${archive.file}.list`;
    writeIfChanged(join(root, list), responseFile(objectsOf(archive.groups)));
    const command = `rm -f ${archive.file}.tmp && ${archive.archiver} crsD ${archive.file}.tmp @${list}`;
    text.push(`${archive.file}: ${list} ${objectsOf(archive.groups).join(' ')}\n${produce(archive.file, command)}`);
  }
  for (const link of plan.links) {
    const list = `${plan.folder}/flags/${link.file.replaceAll('/', '-')}.link`;
    const inputs = [...objectsOf(link.groups), ...link.archives];
    writeIfChanged(join(root, list), responseFile([...link.flags, ...inputs, ...link.trailing]));
    writeIfChanged(
      join(root, `${list}.stamp`),
      `${link.linker}\n${plan.fingerprint}\n${readFileSync(join(root, list), 'utf8')}`,
    );
    folders.add(dirname(link.file));
    const command = `echo ${link.file} && ${link.linker} @${list} -o ${link.file}.tmp`;
    text.push(`${link.file}: ${list}.stamp ${inputs.join(' ')}\n${produce(link.file, command)}`);
  }
  text.push(...depfiles.map((depfile) => `-include ${depfile}\n`));
  for (const folder of folders) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  const makefile = `${plan.folder}/build.mk`;
  writeIfChanged(join(root, makefile), text.join(''));
  return makefile;
}

function unknown(name: string): never {
  throw new BuildError(`the plan names a group ${name} that it does not have`);
}
