// Makes what is installed, in build/packages: `node packaging/dist.ts [single|deb|npm]...`, all of them by default. dist/ has to be built.
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { arch, platform } from 'node:process';
import packageJson from '../package.json' with { type: 'json' };
import { makeDeb } from './deb.ts';
import { licences } from './licences.ts';
import { run } from './run.ts';
import { makeSingle } from './single.ts';

const FOLDER = 'build/packages';
const KINDS = ['single', 'deb', 'npm'];

const asked = process.argv.slice(2);
const wrong = asked.find((kind) => !KINDS.includes(kind));
if (wrong !== undefined) {
  process.stderr.write(`dist: there is no '${wrong}'; ${KINDS.join(', ')}\n`);
  process.exit(1);
}
const wanted = asked.length === 0 ? KINDS : asked;
mkdirSync(FOLDER, { recursive: true });
const single = `${FOLDER}/zow-${packageJson.version}-${platform}-${arch}`;
const made: string[] = [];
if (wanted.includes('single') || wanted.includes('deb')) {
  await makeSingle(FOLDER, single);
  const text = `${FOLDER}/zow-${packageJson.version}-licences.txt`;
  writeFileSync(text, licences());
  made.push(single, text);
}
if (wanted.includes('deb')) made.push(makeDeb(single, FOLDER));
if (wanted.includes('npm'))
  made.push(`${FOLDER}/${run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', FOLDER]).trim()}`);
for (const file of made) process.stdout.write(`${file}  ${(statSync(file).size / 1e6).toFixed(1)} MB\n`);
