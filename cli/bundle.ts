/**
 * Makes dist/, what `npm pack` packs: JavaScript without dependencies, the WebAssembly modules, the schema and the
 * licences of what is in it. `node cli/bundle.ts`; the wasm files have to be built.
 *
 *   dist/zow.mjs       the library          dist/lib/    code shared by both
 *   dist/bin/*.mjs     the executables      dist/wasm/   the core and the programs
 *   dist/types/        the library's types      dist/share/  what upstream installs beside its programs
 *   dist/page/         the live page's files
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { build, type Metafile, type Plugin } from 'esbuild';
import { release, shareFolder, wasmFile } from '../host/assets.ts';
import { PAGE_FILES } from '../host/page/files.ts';
import { readUpstream } from '../zfs-src/upstream.ts';
import { DAEMONS, PROGRAMS } from './programs.ts';

/** Built beside and renamed: whoever runs the old one is not left with half of each. */
const TEMPORARY = 'build/dist';
const NODE_MAJOR = 26;
const PROGRAM_NAMES = [...Object.keys(PROGRAMS), ...DAEMONS];

/** Packages in CommonJS ask for Node's own modules by require(). */
const REQUIRE = `import { createRequire as zowCreateRequire } from 'node:module'; const require = zowCreateRequire(import.meta.url);`;

/** `program:zpool` is what dist/bin/zpool.mjs loads: the runner, and nothing that it does not need. */
const programEntries: Plugin = {
  name: 'programs',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^program:/ }, ({ path }) => ({ path, namespace: 'program' }));
    onLoad({ filter: /.*/, namespace: 'program' }, ({ path }) => ({
      contents: `import { main } from './cli/run.ts'; await main('${path.slice('program:'.length)}', process.argv.slice(2));`,
      resolveDir: process.cwd(),
    }));
  },
};

async function bundle(): Promise<Metafile> {
  const { metafile } = await build({
    entryPoints: [
      { in: 'host/zow.ts', out: 'lib/zow' },
      { in: 'cli/main.ts', out: 'lib/bin-zow' },
      { in: 'host/engine/entry.ts', out: 'lib/engine' },
      ...PROGRAM_NAMES.map((name) => ({ in: `program:${name}`, out: `lib/bin-${name}` })),
    ],
    outdir: TEMPORARY,
    outExtension: { '.js': '.mjs' },
    chunkNames: 'lib/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: `node${NODE_MAJOR}`,
    define: { ZOW_BUNDLED: JSON.stringify(release) },
    banner: { js: REQUIRE },
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
    plugins: [programEntries],
  });
  return metafile;
}

/** Each tells an old Node what is wrong before that meets anything it does not understand. */
function writeExecutables(): void {
  mkdirSync(`${TEMPORARY}/bin`);
  for (const name of ['zow', ...PROGRAM_NAMES]) {
    const file = `${TEMPORARY}/bin/${name}.mjs`;
    writeFileSync(
      file,
      `#!/usr/bin/env node
if (Number.parseInt(process.versions.node, 10) < ${NODE_MAJOR}) {
  process.stderr.write(\`${name}: needs Node ${NODE_MAJOR} or newer, this is \${process.version}\\n\`);
  process.exit(1);
}
await import('../lib/bin-${name}.mjs');
`,
    );
    chmodSync(file, 0o755);
  }
}

function copyWasm(): void {
  mkdirSync(`${TEMPORARY}/wasm`);
  const missing = ['zow', ...PROGRAM_NAMES].filter((name) => !existsSync(wasmFile(name)));
  if (missing.length > 0)
    fail(`not built: ${missing.map((name) => `${name}.wasm`).join(', ')}; ./build.sh wasm builds them`);
  for (const name of ['zow', ...PROGRAM_NAMES]) cpSync(wasmFile(name), `${TEMPORARY}/wasm/${name}.wasm`);
}

/** What upstream installs beside its programs: files for compatibility=, with their other names, and scripts. */
function copyShared(): void {
  const upstream = readUpstream('.', `zfs-src/upstream/${release}`, { cpu: 'none', variables: {} });
  const share = `${TEMPORARY}/share`;
  for (const folder of ['compatibility.d', 'zpool.d'])
    cpSync(`${shareFolder()}/${folder}`, `${share}/${folder}`, { recursive: true });
  // Pairs of a file and its alias, each in quotes; npm packs no links.
  const links = upstream.words('zpoolcompatlinks').map((word) => word.replaceAll('"', ''));
  for (let i = 0; i < links.length; i += 2)
    cpSync(`${share}/compatibility.d/${links[i]}`, `${share}/compatibility.d/${links[i + 1]}`);
}

/** Declarations of everything the library's can refer to. */
function writeTypes(): void {
  const config = `${TEMPORARY}.types.json`;
  const options = {
    ...{ noEmit: false, declaration: true, emitDeclarationOnly: true, rewriteRelativeImportExtensions: true },
    ...{ rootDir: '..', outDir: 'dist/types' },
  };
  const files = ['../host/zow.ts', '../host/runtime/webassembly.d.ts'];
  writeFileSync(config, JSON.stringify({ extends: '../tsconfig.json', compilerOptions: options, include: [], files }));
  const { status, stdout } = spawnSync('node_modules/.bin/tsc', ['-p', config], { encoding: 'utf8' });
  rmSync(config);
  if (status !== 0) fail(`the library's types:\n${stdout}`);
}

/** The licences of the packages whose code is in the bundle, as they ask for. */
function writeNotices(metafile: Metafile): void {
  const packages = new Set<string>();
  for (const input of Object.keys(metafile.inputs)) {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match !== null) packages.add(match[1]!);
  }
  const notices = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? '' : `\n\n${readFileSync(`${folder}/${file}`, 'utf8').trim()}`;
    return `${name} ${version} (${license})${text}\n`;
  });
  writeFileSync(
    `${TEMPORARY}/LICENSES.txt`,
    `Packages contained in the JavaScript of this folder.\n\n${notices.join(`\n${'-'.repeat(72)}\n\n`)}`,
  );
}

/** The terms of what is in the wasm files, from the sources they were built of. */
function copyLicences(): void {
  const tree = `zfs-src/upstream/${release}`;
  for (const name of ['LICENSE', 'NOTICE', 'COPYRIGHT'])
    cpSync(`${tree}/${name}`, `${TEMPORARY}/licenses/openzfs/${name}`);
  for (const name of globSync('{module,lib}/**/THIRDPARTYLICENSE*', { cwd: tree })) {
    if (!name.includes('/os/linux/') && !name.includes('/asm-'))
      cpSync(`${tree}/${name}`, `${TEMPORARY}/licenses/openzfs/${name}`);
  }
  cpSync('zfs-src/upstream/libc/libc-top-half/musl/COPYRIGHT', `${TEMPORARY}/licenses/musl/COPYRIGHT`);
}

function fail(message: string): never {
  process.stderr.write(`bundle: ${message}\n`);
  process.exit(1);
}

rmSync(TEMPORARY, { recursive: true, force: true });
mkdirSync(TEMPORARY, { recursive: true });
const metafile = await bundle();
writeExecutables();
writeFileSync(`${TEMPORARY}/zow.mjs`, `export * from './lib/zow.mjs';\n`);
copyWasm();
copyShared();
writeTypes();
copyLicences();
cpSync('host/config/schema.json', `${TEMPORARY}/schema.json`);
for (const name of PAGE_FILES) cpSync(`host/page/client/${name}`, `${TEMPORARY}/page/${name}`);
writeNotices(metafile);
rmSync('dist', { recursive: true, force: true });
renameSync(TEMPORARY, 'dist');
