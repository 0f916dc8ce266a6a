import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { PageState } from '../../host/page/state.ts';
import { Cmd } from '../../host/protocols/nbd.ts';
import { Browser } from './browser.ts';
import { Lab, MiB, noise, until } from './host.ts';

/** The live page, in a browser as people have it, and its stream of what goes on. */

const SECRET = 'a-token-of-the-page-test';

/** A folder to keep screenshots in; for who changes the page. */
const shots = process.env.ZOW_TEST_SHOTS;

async function openPage(t: ExecutionContext, lab: Lab): Promise<Browser> {
  const browser = await Browser.open();
  t.teardown(() => browser.close());
  await browser.shape({ width: 1280, height: 900 });
  await browser.go(`http://${lab.httpAddress}/`);
  await browser.evaluate('window.notReloaded = true');
  return browser;
}

async function shoot(browser: Browser, name: string): Promise<void> {
  if (shots === undefined) return;
  for (const [shape, size] of [
    ['desktop', { width: 1280, height: 900 }],
    ['phone', { width: 390, height: 844, phone: true }],
  ] as const) {
    await browser.shape(size);
    for (const colours of ['light', 'dark'] as const) {
      await browser.colours(colours);
      writeFileSync(join(shots, `${name}-${shape}-${colours}.png`), await browser.screenshot());
    }
  }
  await browser.shape({ width: 1280, height: 900 });
  await browser.colours('light');
}

test('a pool degrades, resilvers and heals on the page; volumes are made, rolled back and destroyed there', async (t) => {
  const lab = await Lab.open(t);
  const broken = join(lab.directory, 'broken');
  writeFileSync(join(lab.directory, 'token'), `${SECRET}\n`, { mode: 0o600 });
  // A name that would be an element, if anything made HTML of it.
  const disks = [lab.disk('<i>a<'), lab.disk('b')];
  const pools = { tank: { vdevs: ['mirror', ...disks], create: {}, volumes: { v: { size: '64M' } } } };
  const config = { http: { listen: '127.0.0.1:0', token: 'token' }, pools };
  await lab.start({ config, vars: { ZOW_FAULTS: `disks/b:error(op=read|write|flush,errno=EIO,while=${broken})` } });
  const client = await lab.open('tank/v');
  for (let i = 0; i < 16; i++) t.is((await client.writeAt(i * MiB, noise(MiB, i))).errno, 0);
  t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
  const browser = await openPage(t, lab);
  const shows = async (what: string, selector: string, pattern: RegExp): Promise<void> => {
    let last = '';
    await until(`the page shows ${what}`, async () => {
      last = await browser.text(selector);
      return pattern.test(last);
    }).catch((error: Error) => {
      throw new Error(`${error.message}; it shows: ${last}`);
    });
  };
  await shows('that all is well', '#troubles', /All pools are well/);
  await shows('the pool', '.pool', /tank\s+✓\s+ONLINE[\s\S]*<i>a<\s+✓\s+ONLINE\s+0\s+0\s+0/);
  await shows('the volume', '#volumes', /tank\/v\s+64\.0M\s+[\d.]+M\s+1\.00x/);
  await shows('its client', '#clients', /nbd\.sock\s+NBD\s+tank\/v/);
  await shows('what zpool status says', '.pool details', /zpool status -v tank/);
  t.is(await browser.evaluate('document.querySelectorAll(".act:not([hidden])").length > 0'), true);
  await t.throwsAsync(
    browser.click('button', 'Scrub'),
    { message: /nothing to click/ },
    'read-only before it is unlocked',
  );
  await shoot(browser, 'well');

  await lab.zow('tunable', 'zfs_scan_suspend_progress=1');
  writeFileSync(broken, '');
  for (let i = 0; i < 16; i++) await client.writeAt((32 + i) * MiB, noise(MiB, 100 + i));
  await client.request({ type: Cmd.FLUSH });
  await shows('the disk', '.vdevs', /\bb\s+✕\s+FAULTED\s+too many errors\s+\d+\s+[1-9]/);
  await shows('what is wrong', '#troubles', /pool tank is \w+, b is FAULTED/);
  // Only now OpenZFS takes notice that the mirror has lost something.
  await lab.zpool('reopen', 'tank');
  await shows('that it is degraded', '.pool .badge', /DEGRADED/);
  await shows('what to do', '.pool .advice', /Status: One or more devices[\s\S]*Action: /);
  t.regex(await browser.evaluate<string>('document.title'), /^tank DEGRADED/);
  await shoot(browser, 'degraded');

  rmSync(broken);
  await browser.click('#access');
  await browser.type('dialog input[type=password]', 'not-the-token-of-it');
  await browser.click('dialog button', 'Unlock');
  await shows('that the token is wrong', 'dialog', /the token is not right/);
  await browser.type('dialog input[type=password]', SECRET);
  await browser.click('dialog button', 'Unlock');
  const run = async (command: string): Promise<void> => {
    await shows('the command', 'dialog .command', new RegExp(`^${command}$`));
    await browser.click('dialog button', 'Run');
    await shows('that it is done', 'dialog', /^Done/);
    await browser.click('dialog button', 'Close');
  };
  await until('it is unlocked', async () => (await browser.text('#access')) === 'Lock');
  await browser.click('button', 'Clear errors');
  await run('zpool clear tank');
  await shows('the resilver', '.work', /Resilver: \d+(\.\d)?%, \S+ of \S+/);
  await shows('that it is not over yet', '#troubles', /pool tank is resilvering/);
  await shows('that one has to wait', '.pool .advice', /Wait for the resilver to complete/);
  await shoot(browser, 'resilvering');
  await lab.zow('tunable', 'zfs_scan_suspend_progress=0');
  await shows('that it is healed', '.pool .badge', /ONLINE/);
  await shows('the end of the resilver', '.work', /Last resilver ended .* without errors/);
  await shows('its events', '#events', /resilver finish[\s\S]*statechange/);

  await browser.click('button', 'Snapshot');
  await browser.type('dialog input[name=name]', 'first');
  await shoot(browser, 'dialog');
  await run('zfs snapshot tank/v@first');
  client.destroy();
  await browser.click('button', 'New volume');
  await browser.type('dialog input[name=dataset]', 'tank/w');
  await browser.type('dialog input[name=size]', '8M');
  await run('zfs create -s -V 8M tank/w');
  await shows('the new volume', '#volumes', /tank\/w\s+8\.00M/);
  await until('the snapshot is shown', async () => /1 snapshot/.test(await browser.text('#volumes')));
  await browser.click('#volumes button', '1 snapshot');
  await shoot(browser, 'snapshots');
  await browser.click('#volumes button', 'Roll back');
  await shows('the command', 'dialog .command', /^zfs rollback tank\/v@first$/);
  const canRun = () => browser.evaluate<boolean>('!document.querySelector("dialog .danger").disabled');
  const confirm = 'dialog label:not(.check) input';
  t.false(await canRun());
  await browser.type(confirm, 'tank/v');
  t.false(await canRun(), 'the name has to be whole');
  await browser.type(confirm, 'tank/v@first');
  await run('zfs rollback tank/v@first');
  await browser.click('#volumes > tbody:last-of-type > tr > .act button', 'Destroy');
  await shows('the command', 'dialog .command', /^zfs destroy tank\/w$/);
  await browser.type(confirm, 'tank/w');
  await shoot(browser, 'destroy');
  await run('zfs destroy tank/w');
  await until('it is gone from the page', async () => !/tank\/w/.test(await browser.text('#volumes')));
  t.is((await lab.zfs('list', '-Ho', 'name', '-t', 'volume,snapshot')).trim(), 'tank/v\ntank/v@first');
  await shoot(browser, 'healed');

  t.true(await browser.evaluate('window.notReloaded'));
  // Of the token that was wrong; nothing of the content security policy, and of no script.
  const complaints = await browser.complaints();
  t.is(complaints.length, 1, complaints.join('\n'));
  t.regex(complaints[0]!, /\/act .* 401 /);
  t.is(await browser.evaluate('document.querySelectorAll("i").length'), 0);
  t.regex(lab.hostLog, /"peer":"127\.0\.0\.1:\d+","command":"zfs destroy tank\/w","code":0/);
  t.false(lab.hostLog.includes(SECRET));
  await lab.finish('tank');
});

/** What the page is told, from its beginning on. */
class Live {
  readonly #over = new AbortController();
  #text = '';
  states = 0;
  state: PageState | undefined;
  advice: Readonly<Record<string, { readonly status: string; readonly action: string }>> = {};

  async open(address: string): Promise<void> {
    const response = await fetch(`http://${address}/live`, { signal: this.#over.signal });
    void this.#read(response).catch(() => undefined);
  }

  async #read(response: Response): Promise<void> {
    for await (const part of response.body!) {
      this.#text += Buffer.from(part).toString();
      const messages = this.#text.split('\n\n');
      this.#text = messages.pop()!;
      for (const message of messages) this.#take(message);
    }
  }

  #take(message: string): void {
    const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(message) ?? [];
    if (event === 'state') {
      this.state = JSON.parse(data!);
      this.states++;
    } else if (event === 'advice') this.advice = JSON.parse(data!);
  }

  pool(name: string) {
    return this.state?.pools.find((pool) => pool.name === name);
  }

  close(): void {
    this.#over.abort();
  }
}

for (const engines of ['one', 'processes']) {
  test(`a suspended pool holds the page up for nobody; engines: ${engines}`, async (t) => {
    const lab = await Lab.open(t);
    const broken = join(lab.directory, 'broken');
    const vars = {
      ZOW_ENGINES: engines,
      ZOW_FAULTS: `disks/bad:error(op=read|write|flush,errno=EIO,while=${broken})`,
    };
    const pools = { calm: { vdevs: [lab.disk('good')], create: {} } };
    await lab.start({ vars, config: { http: { listen: '127.0.0.1:0' }, memory: '256M', pools } });
    await lab.zpool('create', 'tank', lab.disk('bad'));
    await lab.zfs('create', '-V', '16M', 'tank/v');
    const live = new Live();
    t.teardown(() => live.close());
    await live.open(lab.httpAddress);
    await until('both pools are told', () => live.pool('tank')?.details !== undefined);
    t.like(live.pool('tank'), { state: 'ONLINE' });
    t.like(live.state!.volumes, [{ name: 'tank/v' }]);
    const client = await lab.open('tank/v');
    writeFileSync(broken, '');
    void client.writeAt(0, noise(65536)).catch(() => undefined);
    void client.request({ type: Cmd.FLUSH }).catch(() => undefined);
    await until('the page says that it is suspended', () => live.pool('tank')?.state === 'SUSPENDED');
    const before = live.states;
    await until('it goes on', () => live.states >= before + 3);
    await until('the other one is told', () => (live.pool('calm')?.io?.size ?? 0) > 0);
    t.regex(live.state!.troubles.join(), /pool tank is SUSPENDED/);
    await until('zpool status is told of', () => /clear/.test(live.advice.tank?.action ?? ''));
    rmSync(broken);
    await lab.zpool('clear', 'tank');
    await until('it is well again', () => live.pool('tank')?.details?.vdevs[0]?.state === 'ONLINE');
    live.close();
    client.destroy();
    await lab.stop();
  });
}
