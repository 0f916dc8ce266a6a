// The plan of the core and the programs as WebAssembly.
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { type Context, fingerprint, own, wraps } from './context.ts';
import { type Facts, readFacts } from './facts.ts';
import { MUSL_ARCH, muslHeaders } from './headers.ts';
import type { Archive, Group, Link, Plan } from './plan.ts';
import * as units from './units.ts';
import { readUpstream, type Upstream } from './upstream.ts';

/** Flags of single files, by the start of their path. */
type Exceptions = Readonly<Record<string, readonly string[]>>;

/** Groups for `sources` of one unit: those that `exceptions` names get groups of their own. */
function withExceptions(group: Group, tree: string, exceptions: Exceptions = units.EXCEPTIONS): Group[] {
  const plain: string[] = [];
  const special = new Map<string, string[]>();
  for (const source of group.sources) {
    const path = source.startsWith(`${tree}/`) ? source.slice(tree.length + 1) : source;
    const prefix = Object.keys(exceptions).find((candidate) => path.startsWith(candidate));
    if (prefix === undefined) {
      plain.push(source);
    } else {
      special.set(prefix, [...(special.get(prefix) ?? []), source]);
    }
  }
  const groups = [...special].map(([prefix, sources], index): Group => {
    const extra = exceptions[prefix]!.map((flag) => flag.replaceAll('{tree}', tree));
    return { ...group, name: `${group.name}-${index + 1}`, sources, flags: [...group.flags, ...extra] };
  });
  return [{ ...group, sources: plain }, ...groups];
}

/** The paths and flags that all parts of one build share. */
class Wasm {
  readonly context: Context;
  readonly folder: string;
  readonly upstream: Upstream;
  readonly facts: Facts;
  readonly #musl: string;

  constructor(context: Context) {
    this.context = context;
    this.folder = `build/${context.release}/${context.check ? 'check' : context.debug ? 'wasm-debug' : 'wasm'}`;
    this.#musl = context.musl;
    this.facts = readFacts(join(context.root, context.tree));
    this.upstream = readUpstream(context.root, context.tree, {
      cpu: 'none',
      variables: {
        top_builddir: 'wasm/overlay',
        DEBUG_CPPFLAGS: context.debug ? '-DDEBUG -UNDEBUG -DZFS_DEBUG' : '-UDEBUG -DNDEBUG',
      },
    });
  }

  /** Flags of everything, and the system's include path, which is musl's. */
  #base(): string[] {
    const { tree } = this.context;
    const generated = `${this.folder}/gen`;
    const system = [
      `${generated}/musl`,
      `${this.#musl}/arch/${MUSL_ARCH}`,
      `${this.#musl}/arch/generic`,
      `${this.#musl}/include`,
    ];
    return [
      ...units.WASM_FLAGS,
      this.context.check ? '-O0' : '-O2',
      this.context.debug ? '-g' : '-g0',
      `-ffile-prefix-map=${tree}/=`,
      ...system.flatMap((path) => ['-isystem', path]),
    ];
  }

  #muslGroup(): Group {
    const skip = new Set(units.MUSL.without);
    const files = units.MUSL.files
      .flatMap((pattern) => globSync(pattern, { cwd: join(this.context.root, this.#musl, 'src') }).sort())
      .filter((file) => !skip.has(file));
    const internal = ['-Iwasm/libc/arch', `-I${this.#musl}/src/include`, `-I${this.#musl}/src/internal`];
    return {
      name: 'musl',
      compiler: this.context.tools.clang,
      sources: files.map((file) => `${this.#musl}/src/${file}`),
      flags: [
        ...['-std=c99', '-ffreestanding', '-fno-builtin', '-D_XOPEN_SOURCE=700', '-DBULK_MEMORY_THRESHOLD=32', '-w'],
        ...internal,
        ...this.#base(),
      ],
    };
  }

  /** musl, of which a link takes what it needs. */
  musl(): Group[] {
    return withExceptions(this.#muslGroup(), `${this.#musl}/src`);
  }

  /** Our files of the libc level: `patterns` selects them. */
  seam(name: string, patterns: readonly string[]): Group {
    return {
      name,
      compiler: this.context.tools.clang,
      sources: own(this.context.root, ...patterns),
      flags: [
        ...[
          '-std=gnu11',
          '-D_GNU_SOURCE',
          ...units.OWN_WARNINGS,
          '-Iwasm/libc',
          '-Iwasm/libc/arch',
          `-I${this.#musl}/../..`,
        ],
        ...[`-I${this.#musl}/src/include`, `-I${this.#musl}/src/internal`],
        ...this.#base(),
      ],
    };
  }

  /** Include path and definitions of upstream's code: overlays first, then what upstream's makefiles say. */
  #upstreamFlags(flags: readonly string[], overlays: readonly string[]): string[] {
    return [
      `-DZFS_META_VERSION="${this.context.release}"`,
      ...['-DHAVE_LARGE_STACKS=1', '-std=gnu11'],
      ...overlays.map((path) => `-I${path}`),
      ...flags.filter((flag) => !flag.startsWith('-std=')),
      ...this.#base(),
    ];
  }

  /** Upstream's sources and ours of the core; `_KERNEL` makes most of them what they are in a kernel. */
  core(): Group[] {
    const { root, tree, tools } = this.context;
    const skip = new Set(units.CORE.without);
    const derived = units.CORE.upstream
      .flatMap((name) => this.upstream.target(name).sources)
      .filter((source) => !skip.has(source) && !units.MACHINE_CODE.test(source));
    const overlays = ['wasm/overlay', 'wasm/libc', 'wasm/core', 'wasm/core/platform', 'wasm/core/services'];
    const more = ['libzpool', 'libzutil'].map((library) => `-I${tree}/lib/${library}`);
    // Upstream forces assertions on wherever libzpool is: right for testing, slow in a product.
    const release = this.context.debug ? [] : ['-UDEBUG', '-DNDEBUG', '-UZFS_DEBUG'];
    const flags = [
      ...this.#upstreamFlags([...this.upstream.target('libzpool').flags, ...more, ...release], overlays),
      // What every file of the core sees, whether it is compiled as the kernel's or not (wasm/overlay): a fact that is not known would be
      // one that is not so.
      ...['-DZOW_CORE', '-include', `${this.folder}/gen/tree/zow_tree.h`],
    ];
    const sources = [...new Set([...derived, ...units.CORE.extra])];
    const isUserspace = (source: string): boolean =>
      units.CORE.userspace.some((prefix) => source.startsWith(prefix)) && !units.CORE.kernel.includes(source);
    const group = (name: string, files: readonly string[], more: readonly string[]): Group => ({
      name,
      compiler: tools.clang,
      sources: files.map((source) => `${tree}/${source}`),
      flags: [...flags, ...more],
    });
    const upstream = [
      group(
        'core-kernel',
        sources.filter((source) => !isUserspace(source)),
        ['-D_KERNEL', '-w'],
      ),
      group('core-userspace', sources.filter(isUserspace), ['-w']),
    ];
    const renames = Object.entries(units.CORE.renamed).map(([source, names]): [string, string[]] => [
      source,
      names.map((name) => `-D${name}=libzpool_${name}`),
    ]);
    const preempted = units.CORE.preempted.map((source): [string, string[]] => [
      source,
      [...(units.EXCEPTIONS[source] ?? []), '-finstrument-function-entry-bare'],
    ]);
    const exceptions = { ...units.EXCEPTIONS, ...Object.fromEntries([...renames, ...preempted]) };
    const ours: Group = {
      name: 'core',
      compiler: tools.clang,
      sources: own(root, ...units.CORE.own),
      flags: [
        ...[...flags, '-D_KERNEL', ...units.OWN_WARNINGS],
        ...(this.facts.has('TREE_NVLIST_CONST') ? [] : ['-Wno-incompatible-pointer-types-discards-qualifiers']),
      ],
    };
    return [...upstream.flatMap((part) => withExceptions(part, tree, exceptions)), ours];
  }

  /** Upstream's libraries and programs as they are outside the kernel, one list of groups for each name. */
  userspace(names: readonly string[]): Map<string, Group[]> {
    const { tree, tools } = this.context;
    const overlays = ['wasm/program/overlay', 'wasm/overlay'];
    return new Map(
      names.map((name) => {
        const target = this.upstream.target(name);
        const sources = target.sources.filter((source) => !units.MACHINE_CODE.test(source));
        const flags = [...this.#upstreamFlags(target.flags, overlays), '-w'];
        const group = { name, compiler: tools.clang, sources: sources.map((source) => `${tree}/${source}`), flags };
        return [name, withExceptions(group, tree)];
      }),
    );
  }

  /** Our part of every program. */
  client(): Group {
    const flags = this.#upstreamFlags(this.upstream.target('libzfs_core').flags, [
      'wasm/program/overlay',
      'wasm/overlay',
      'cli/src',
    ]);
    return {
      name: 'client',
      compiler: this.context.tools.clang,
      sources: own(this.context.root, ...units.CLIENT),
      flags: [...flags, '-Iwasm/libc', ...units.OWN_WARNINGS],
    };
  }
}

/** The core and the programs as WebAssembly, with the libc under them. */
export function wasmPlan(context: Context): Plan {
  const { root, tree, tools } = context;
  const wasm = new Wasm(context);
  const musl = wasm.musl();
  const libc = wasm.seam('libc', units.LIBC);
  const process = wasm.seam('process', units.WASM_PROCESS);
  const core = wasm.core();
  const client = wasm.client();
  const names = wasm.upstream.closure(units.WASM_PROGRAMS);
  const userspace = wasm.userspace(names);
  const groupNames = (groups: readonly Group[]): string[] => groups.map((group) => group.name);
  const archiveOf = (library: string): string => `${wasm.folder}/lib/${library}.a`;
  const archive = (library: string, groups: readonly Group[]): Archive => ({
    file: archiveOf(library),
    archiver: tools.wasmAr,
    groups: groupNames(groups),
  });
  // What is ours is linked whole: the host calls into it. Of musl and the libraries a link takes what it needs.
  const link = (
    file: string,
    groups: readonly Group[],
    libraries: readonly string[],
    wrapping: readonly string[],
  ): Link => ({
    file: `${wasm.folder}/${file}`,
    linker: tools.wasmLd,
    flags: [...units.WASM_LINK, ...(context.debug ? [] : ['--strip-debug']), ...wraps(root, own(root, ...wrapping))],
    groups: groupNames(groups),
    archives: [...libraries, 'musl'].map(archiveOf),
    trailing: [tools.wasmBuiltins],
  });
  const programLinks = units.WASM_PROGRAMS.map((program) => {
    const libraries = wasm.upstream.closure([program]).filter((name) => name !== program);
    const groups = [...userspace.get(program)!, libc, process];
    // The client is an archive: not every program has all that it wraps.
    return link(
      `${program}.wasm`,
      groups,
      [...libraries, 'client'],
      [...units.CLIENT, ...units.LIBC, ...units.WASM_PROCESS],
    );
  });
  const libraries = names.filter((name) => !units.WASM_PROGRAMS.includes(name));
  return {
    folder: wasm.folder,
    prefixes: [`${tree}/`, `${context.musl}/src/`],
    fingerprint: fingerprint(context, 'wasm/**/*.h', 'cli/src/*.h'),
    headers: new Map([
      ...[...muslHeaders(root, context.musl)].map(([name, content]) => [`gen/musl/${name}`, content] as const),
      ['gen/tree/zow_tree.h', wasm.facts.header],
    ]),
    groups: [...musl, libc, process, ...core, ...[...userspace.values()].flat(), client],
    archives: [
      archive('musl', musl),
      archive('client', [client]),
      ...libraries.map((library) => archive(library, userspace.get(library)!)),
    ],
    links: [link(units.CORE.output, [...core, libc], [], [...units.CORE.own, ...units.LIBC]), ...programLinks],
  };
}
