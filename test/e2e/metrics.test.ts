import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab, noise, until } from './host.ts';

/** What is asked for over HTTP: health and metrics, of hosts whose pools do well and of those that do not. */

const http = { listen: '127.0.0.1:0' };

async function ask(lab: Lab, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://${lab.httpAddress}${path}`);
  return { status: response.status, body: await response.text() };
}

test('health: a suspended pool makes the host unready, and only that', async (t) => {
  const lab = await Lab.open(t);
  const broken = join(lab.directory, 'broken');
  const pools = { calm: { vdevs: [lab.disk('good')], create: {} } };
  const vars = { ZOW_FAULTS: `disks/bad:error(op=read|write|flush,errno=EIO,while=${broken})` };
  await lab.start({ vars, config: { http, pools } });
  t.deepEqual(await ask(lab, '/healthz'), { status: 200, body: 'ok\n' });
  t.deepEqual(await ask(lab, '/readyz'), { status: 200, body: 'ready\n' });
  await lab.zpool('create', 'tank', lab.disk('bad'));
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  writeFileSync(broken, '');
  void client.writeAt(0, noise(65536)).catch(() => undefined);
  void client.request({ type: 3 }).catch(() => undefined);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  t.deepEqual(await ask(lab, '/readyz'), { status: 503, body: 'pool tank is SUSPENDED\n' });
  t.deepEqual(await ask(lab, '/healthz'), { status: 200, body: 'ok\n' });
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  t.deepEqual(await ask(lab, '/readyz'), { status: 200, body: 'ready\n' });
  await lab.zpool('export', 'calm');
  t.deepEqual(await ask(lab, '/readyz'), { status: 503, body: 'pool calm is not imported\n' });
  client.destroy();
  await lab.stop();
});
