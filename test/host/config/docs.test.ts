import { readFileSync } from 'node:fs';
import test from 'ava';
import { parseConfig } from '../../../host/config/load.ts';
import schema from '../../../host/config/schema.json' with { type: 'json' };

const docs = readFileSync(new URL('../../../docs/config.md', import.meta.url), 'utf8');

test('docs/config.md names every key of the schema', (t) => {
  const { pool, poolProperties, volume, nbdListener, nbdTls, http } = schema.definitions;
  const { device, deviceTls } = schema.definitions;
  const { iscsiListener, iscsiChap, iscsiAllow, iscsiTarget } = schema.definitions;
  const nodes = [
    schema,
    pool,
    poolProperties,
    volume,
    device,
    deviceTls,
    nbdListener,
    nbdTls,
    http,
    iscsiListener,
    iscsiChap,
    iscsiAllow,
    iscsiTarget,
  ];
  const keys = nodes.flatMap(({ properties }) => Object.keys(properties));
  const missing = keys.filter((key) => !docs.includes(`\`${key}`) && key !== 'log');
  t.deepEqual(missing, []);
  t.true(docs.includes('`log.level`'));
});

test('the configurations in docs/config.md are valid', (t) => {
  const blocks = [...docs.matchAll(/```yaml\n([\s\S]*?)```/g)];
  t.true(blocks.length > 0);
  for (const [, text = ''] of blocks) t.notThrows(() => parseConfig('docs.yaml', Buffer.from(text)));
});
