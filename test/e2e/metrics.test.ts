import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { Cmd } from '../../host/protocols/nbd.ts';
import type { HostStatus } from '../../host/supervisor/status.ts';
import { Lab, MiB, must, noise, root, until } from './host.ts';
import { freePort } from './process.ts';

/** What is asked for over HTTP: health and metrics, of hosts whose pools do well and of those that do not. */

const http = { listen: '127.0.0.1:0' };

async function ask(lab: Lab, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://${lab.httpAddress}${path}`);
  return { status: response.status, body: await response.text() };
}

/** Metrics by their line's text before the value. */
async function scrape(lab: Lab): Promise<ReadonlyMap<string, number>> {
  const headers = { accept: 'application/openmetrics-text; version=1.0.0' };
  const response = await fetch(`http://${lab.httpAddress}/metrics`, { headers });
  const text = await response.text();
  if (!text.endsWith('# EOF\n')) throw new Error(`no metrics: ${response.status} ${text.slice(0, 200)}`);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

for (const engines of ['one', 'processes']) {
  test(`metrics agree with zpool, zfs and what a client did; engines: ${engines}`, async (t) => {
    const lab = await Lab.open(t);
    const volumes = { v: { size: '32M', volblocksize: '16K', compression: 'lz4' } };
    const pools = { tank: { vdevs: ['mirror', lab.disk('a'), lab.disk('b')], create: {}, volumes } };
    await lab.start({ config: { http, pools }, vars: { ZOW_ENGINES: engines } });
    const client = await lab.open('tank/v');
    for (let i = 0; i < 8; i++) t.is((await client.writeAt(i * MiB, noise(MiB, i))).errno, 0);
    t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
    for (let i = 0; i < 4; i++) await client.readAt(i * MiB, MiB);
    await lab.zpool('sync');
    await lab.zpool('scrub', '-w', 'tank');
    const used = Number(await lab.get('tank/v', 'used'));
    let metrics = await scrape(lab);
    await until('the space of the volume is told', async () => {
      metrics = await scrape(lab);
      return metrics.get('zow_dataset_used_bytes{pool="tank",dataset="tank/v",type="volume"}') === used;
    });
    const ofDataset = (name: string) => metrics.get(`zow_dataset_${name}{pool="tank",dataset="tank/v",type="volume"}`);
    t.is(ofDataset('referenced_bytes'), Number(await lab.get('tank/v', 'referenced')));
    t.is(ofDataset('compression_ratio'), Number(await lab.get('tank/v', 'compressratio')));
    const properties = 'size,allocated,free,fragmentation,guid';
    const [size, allocated, free, fragmentation] = (await lab.zpool('list', '-Hp', '-o', properties, 'tank'))
      .trim()
      .split('\t')
      .map(Number);
    metrics = await scrape(lab);
    t.is(metrics.get('zow_pool_size_bytes{pool="tank"}'), size);
    t.is(metrics.get('zow_pool_allocated_bytes{pool="tank"}'), allocated);
    t.is(metrics.get('zow_pool_free_bytes{pool="tank"}'), free);
    t.is(metrics.get('zow_pool_fragmentation_ratio{pool="tank"}'), fragmentation! / 100);
    t.is(metrics.get('zow_pool_state{pool="tank",state="ONLINE"}'), 1);
    t.is(metrics.get('zow_pool_scan_running{pool="tank",kind="scrub"}'), 0);
    t.true(metrics.get('zow_pool_scan_issued_bytes{pool="tank",kind="scrub"}')! > 8 * MiB);
    const ofVolume = (name: string, op: string) =>
      metrics.get(`zow_volume_${name}{pool="tank",volume="tank/v",op="${op}"}`);
    t.is(ofVolume('operations_total', 'write'), 8);
    t.is(ofVolume('bytes_total', 'write'), 8 * MiB);
    t.is(ofVolume('operations_total', 'read'), 4);
    t.is(ofVolume('operations_total', 'flush'), 1);
    t.is(metrics.get(`zow_client_bytes_total{protocol="nbd",listener="${lab.nbdSocket}",direction="write"}`), 8 * MiB);
    t.is(metrics.get(`zow_client_requests_total{protocol="nbd",listener="${lab.nbdSocket}",request="read"}`), 4);
    t.is(metrics.get(`zow_client_connections{protocol="nbd",listener="${lab.nbdSocket}"}`), 1);
    const written = ['a', 'b'].map((disk) =>
      metrics.get(`zow_vdev_bytes_total{pool="tank",vdev="${join(lab.disks, disk)}",op="write"}`),
    );
    for (const bytes of written) t.true(bytes! >= 8 * MiB, `${bytes} bytes written to a disk`);
    client.destroy();
    await lab.stop();
  });
}

const monitoring = join(root, 'examples/monitoring');

/** Every expression of the board, with what Grafana puts in for its variables. */
function boardExpressions(): string[] {
  const board = JSON.parse(readFileSync(join(monitoring, 'grafana.json'), 'utf8'));
  const targets: { expr: string }[] = board.panels.flatMap((panel: { targets?: unknown[] }) => panel.targets ?? []);
  return targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$\w+/g, '.*'));
}

test('the alert rules hold what they say, and the expressions of the board are right', async (t) => {
  await must('promtool', ['check', 'rules', 'alerts.yaml'], { cwd: monitoring });
  await must('promtool', ['check', 'config', 'prometheus.yaml'], { cwd: monitoring });
  await must('promtool', ['test', 'rules', 'alerts.test.yaml', 'alerts-days.test.yaml'], { cwd: monitoring });
  const folder = mkdtempSync(join(tmpdir(), 'zow-board-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const expressions = boardExpressions();
  t.true(expressions.length > 20);
  const rules = expressions.map((expr, i) => ({ record: `board:${i}`, expr }));
  writeFileSync(join(folder, 'board.yaml'), stringify({ groups: [{ name: 'board', rules }] }));
  await must('promtool', ['check', 'rules', 'board.yaml'], { cwd: folder });
});

test('Prometheus scrapes a host, and knows every metric of the alerts and the board', async (t) => {
  const lab = await Lab.open(t);
  const volumes = { v: { size: '16M' } };
  await lab.start({ config: { http, pools: { tank: { vdevs: [lab.disk('a')], create: {}, volumes } } } });
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(MiB))).errno, 0);
  t.true((await client.readAt(0, MiB)).equals(noise(MiB)));
  await lab.zpool('scrub', '-w', 'tank');
  const config = join(lab.directory, 'prometheus.yaml');
  const jobs = [{ job_name: 'zow', static_configs: [{ targets: [lab.httpAddress] }] }];
  const rules = [join(monitoring, 'alerts.yaml')];
  writeFileSync(config, stringify({ global: { scrape_interval: '1s' }, rule_files: rules, scrape_configs: jobs }));
  const port = await freePort();
  const args = [
    ...[`--config.file=${config}`, `--storage.tsdb.path=${join(lab.directory, 'prometheus')}`],
    `--web.listen-address=127.0.0.1:${port}`,
  ];
  const prometheus = spawn('setpriv', ['--pdeathsig', 'KILL', 'prometheus', ...args], { stdio: 'ignore' });
  t.teardown(() => prometheus.kill('SIGKILL'));
  const ask = async <T>(path: string): Promise<T> =>
    ((await (await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)).json()) as { data: T }).data;
  const query = async (expr: string): Promise<unknown[]> =>
    (await ask<{ result: unknown[] }>(`query?query=${encodeURIComponent(expr)}`)).result;
  await until(
    'Prometheus has scraped the host',
    async () => (await query('zow_dataset_used_bytes').catch(() => [])).length > 0,
    60_000,
  );
  const { activeTargets } = await ask<{ activeTargets: { health: string; lastError: string }[] }>('targets');
  t.deepEqual(
    activeTargets.map(({ health, lastError }) => [health, lastError]),
    [['up', '']],
  );
  const known = new Set(await ask<string[]>('label/__name__/values'));
  const texts = [...boardExpressions(), readFileSync(join(monitoring, 'alerts.yaml'), 'utf8')].join('\n');
  const used = new Set(texts.match(/\bzow_\w+/g));
  // Told only while a scrub runs.
  used.delete('zow_pool_scan_remaining_seconds');
  t.deepEqual(
    [...used].filter((name) => !known.has(name)),
    [],
  );
  const { alerts } = await ask<{ alerts: { labels: { alertname: string } }[] }>('alerts');
  const firing = alerts.map(({ labels }) => labels.alertname);
  t.deepEqual(firing, []);
  client.destroy();
  await lab.stop();
});

test('a suspended pool holds no scrape up, and the other pool is told', async (t) => {
  const lab = await Lab.open(t);
  const broken = join(lab.directory, 'broken');
  const vars = { ZOW_FAULTS: `disks/bad:error(op=read|write|flush,errno=EIO,while=${broken})` };
  const pools = { calm: { vdevs: [lab.disk('good')], create: {} } };
  await lab.start({ vars, config: { http, pools } });
  await lab.zpool('create', 'tank', lab.disk('bad'));
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  writeFileSync(broken, '');
  void client.writeAt(0, noise(65536)).catch(() => undefined);
  void client.request({ type: Cmd.FLUSH }).catch(() => undefined);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  for (let i = 0; i < 3; i++) {
    const metrics = await scrape(lab);
    t.is(metrics.get('zow_pool_state{pool="tank",state="SUSPENDED"}'), 1);
    t.is(metrics.get('zow_pool_state{pool="tank",state="ONLINE"}'), 0);
    t.is(metrics.get('zow_pool_up{pool="calm"}'), 1);
    t.true(metrics.get('zow_pool_size_bytes{pool="calm"}')! > 0);
    t.true(metrics.get('zow_scrape_collect_seconds')! < 2);
  }
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  client.destroy();
  await lab.stop();
});

test('an engine that is stopped, or lost, is told as such; the other is told on', async (t) => {
  const lab = await Lab.open(t);
  const pool = (disk: string) => ({ vdevs: [lab.disk(disk)], create: {} });
  const config = { http, memory: '256M', pools: { tank: pool('a'), calm: pool('b') } };
  await lab.start({ config, vars: { ZOW_ENGINES: 'processes' } });
  t.deepEqual(await ask(lab, '/readyz'), { status: 200, body: 'ready\n' });
  const { engines } = JSON.parse((await lab.zow('status', '--json')).stdout) as HostStatus;
  const { pid } = engines.find(({ pools }) => pools.includes('tank'))!;
  t.is((await scrape(lab)).get('zow_pool_up{pool="tank"}'), 1);
  process.kill(pid, 'SIGSTOP');
  let metrics = await scrape(lab);
  t.is(metrics.get('zow_pool_up{pool="tank"}'), 0);
  t.is(metrics.get('zow_pool_size_bytes{pool="tank"}'), undefined);
  t.is(metrics.get('zow_pool_up{pool="calm"}'), 1);
  t.true(metrics.get('zow_pool_size_bytes{pool="calm"}')! > 0);
  t.true(metrics.get('zow_scrape_collect_seconds')! < 5);
  t.deepEqual(await ask(lab, '/readyz'), { status: 503, body: 'the core of tank does not answer\n' });
  process.kill(pid, 'SIGCONT');
  await until('the engine answers', async () => (await scrape(lab)).get('zow_pool_up{pool="tank"}') === 1);
  t.is(metrics.get('zow_engine_losses_total'), 0);
  process.kill(pid, 'SIGKILL');
  await until('the pool is back', async () => {
    metrics = await scrape(lab);
    return metrics.get('zow_engine_losses_total') === 1 && metrics.get('zow_pool_up{pool="tank"}') === 1;
  });
  await until('the host is ready again', async () => (await ask(lab, '/readyz')).status === 200);
  await lab.stop();
});

test('iSCSI initiators are counted', async (t) => {
  const lab = await Lab.open(t);
  const pools = { tank: { vdevs: [lab.disk('a')], create: {}, volumes: { v: { size: '16M' } } } };
  await lab.start({ config: { http, pools, iscsi: [{ listen: '127.0.0.1:0' }] } });
  await must('iscsi-inq', [`iscsi://${lab.iscsiAddress}/iqn.2026-11.io.zow:tank:v/0`]);
  const metrics = await scrape(lab);
  t.is(metrics.get(`zow_iscsi_logins_total{listener="${lab.iscsiAddress}",result="succeeded"}`), 1);
  t.is(metrics.get(`zow_client_connections_total{protocol="iscsi",listener="${lab.iscsiAddress}"}`), 1);
  t.true(
    metrics.get(`zow_client_requests_total{protocol="iscsi",listener="${lab.iscsiAddress}",request="other"}`)! > 0,
  );
  await lab.stop();
});

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
  void client.request({ type: Cmd.FLUSH }).catch(() => undefined);
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

test('clients are counted by the listener that they came by, also those whose volume is in an engine', async (t) => {
  const lab = await Lab.open(t);
  const pools = { tank: { vdevs: [lab.disk('a')], create: {}, volumes: { v: { size: '16M' } } } };
  const second = join(lab.directory, 'run/second.sock');
  for (const engines of ['one', 'processes']) {
    await lab.start({
      vars: { ZOW_ENGINES: engines },
      config: { http, pools, nbd: [{ unix: lab.nbdSocket }, { unix: second }] },
    });
    const uri = (socket: string): string => `nbd+unix:///tank/v?socket=${socket}`;
    await must('qemu-io', ['-f', 'raw', '-c', 'write 0 1M', uri(second)]);
    await must('qemu-io', ['-f', 'raw', '-c', 'read 0 64k', uri(lab.nbdSocket)]);
    const metrics = await scrape(lab);
    const of = (name: string, listener: string, more = '') =>
      metrics.get(`zow_client_${name}{protocol="nbd",listener="${listener}"${more}}`);
    t.is(of('bytes_total', second, ',direction="write"'), MiB, engines);
    t.is(of('bytes_total', lab.nbdSocket, ',direction="write"'), 0);
    t.true(of('bytes_total', lab.nbdSocket, ',direction="read"')! >= 65536);
    t.is(of('connections_total', second), 1);
    t.is(of('connections_total', lab.nbdSocket), 1);
    t.is(of('connections', second), 0);
    await lab.stop();
  }
});
