import type { Config, RemoteDeviceConfig, VolumeConfig } from '../../host/config/config.ts';
import { formatSize } from '../../host/config/size.ts';
import { loadCore } from '../../host/core/load.ts';
import { addressText } from '../../host/devices/nbd/address.ts';
import type { RemoteDisk } from '../../host/devices/remote.ts';
import { probeSocket } from '../../host/ioctl/socket-path.ts';
import { loadChap } from '../../host/iscsi/chap-file.ts';
import { Token } from '../../host/page/token.ts';
import { chosenEngines, engineProblems } from '../../host/serve/engines.ts';
import { type Plan, planPools } from '../../host/serve/plan.ts';
import { ownDisk, startRemoteDisks } from '../../host/serve/remote.ts';
import { type Finding, type PoolSurvey, surveyPool } from '../../host/serve/survey.ts';
import { tunableProblems } from '../../host/serve/tunables.ts';

export interface CheckResult {
  /** For people. */
  readonly text: string;
  /** Why `zow serve` would refuse; empty when it would start, as far as can be known. */
  readonly errors: readonly string[];
}

/**
 * What `zow serve` would do with a valid configuration. Opens devices for reading only and takes no lock; connects to remote
 * ones. Rejects with ConfigError when a tunable is wrong, with StartError when keys cannot be used.
 */
export async function check(config: Config): Promise<CheckResult> {
  const surveys: PoolSurvey[] = [];
  const remote = await startRemoteDisks(config.devices, ownDisk);
  const reached = config.devices.map((device, index) => describeDevice(device, remote.disks[index]!));
  try {
    for (const pool of config.pools) surveys.push(await surveyPool(pool, { exclusive: false, remote }));
  } finally {
    await remote.close();
  }
  const plan = planPools(surveys);
  await checkTunables(config);
  const holder = await probeSocket(config.socket).catch(() => undefined);
  const served = holder === undefined ? '' : `  (served now${holder.pid === undefined ? '' : ` by pid ${holder.pid}`})`;
  const lines = [`socket  ${config.socket}${served}`, `memory  ${formatSize(config.memoryBytes)}`];
  for (const listener of config.nbd) {
    lines.push(`nbd     ${listener.kind === 'unix' ? listener.path : listener.address}`);
  }
  lines.push(...reached);
  const errors = [...plan.errors, ...engineProblems(config, chosenEngines())];
  for (const { address, chap } of config.iscsi) {
    lines.push(`iscsi   ${address}`);
    if (chap !== undefined) await loadChap(chap).catch((error: Error) => errors.push(`iscsi: ${error.message}`));
  }
  if (config.http !== undefined) {
    const { http } = config;
    lines.push(`http    ${http.kind === 'unix' ? http.path : http.address}`);
    if (http.token !== undefined)
      await Token.load(http.token).catch((error: Error) => errors.push(`http: ${error.message}`));
  }
  for (const { name, luns } of config.targets) {
    lines.push(`target  ${name}: ${[...luns].map(([lun, { volume }]) => `${lun} ${volume}`).join(', ')}`);
  }
  for (const { name, value } of config.tunables) lines.push(`tunable ${name}=${value}`);
  for (const survey of surveys) lines.push(...describePool(survey, plan));
  for (const warning of plan.warnings) lines.push(`warning: ${warning}`);
  return { text: `${lines.join('\n')}\n`, errors };
}

/** Only the core knows its tunables and their values: one without devices is asked. Rejects with ConfigError. */
async function checkTunables({ memoryBytes, ...config }: Config): Promise<void> {
  if (config.tunables.length === 0) return;
  const core = await loadCore({ memoryBytes, tunables: config.tunables });
  try {
    const refused = await tunableProblems({ memoryBytes, ...config }, core);
    if (refused !== undefined) throw refused;
  } finally {
    await core.close();
  }
}

function describeDevice({ address, tls }: RemoteDeviceConfig, { name, status }: RemoteDisk): string {
  const found = status.isReady ? formatSize(status.sizeBytes!) : `cannot be reached: ${status.reason}`;
  return `device  ${name}: ${addressText(address)}${tls === undefined ? '' : ', TLS'}: ${found}`;
}

function describePool({ pool, findings, siblings }: PoolSurvey, plan: Plan): string[] {
  const todo = plan.pools.find((candidate) => candidate.pool === pool);
  const verb =
    todo === undefined ? 'cannot be served' : todo.action === 'import' ? 'would be imported' : 'would be created';
  const lines = [`pool    ${pool.name}: ${pool.vdevs.summary}; ${verb}`];
  for (const [path, finding] of findings) lines.push(`          ${path}: ${describe(finding)}`);
  for (const path of siblings) lines.push(`          ${path}: belongs to the pool, though not in the configuration`);
  return [...lines, ...pool.volumes.map((volume) => describeVolume(volume, todo?.action === 'create'))];
}

function describe(finding: Finding): string {
  switch (finding.kind) {
    case 'missing':
      return finding.why === undefined ? 'missing' : `missing: ${finding.why}`;
    case 'unusable':
      return finding.message;
    case 'blank':
      return `${formatSize(finding.sizeBytes)}, blank`;
    case 'foreign':
      return `${formatSize(finding.sizeBytes)}, holds ${finding.what}`;
    case 'labelled': {
      const { state, pool } = finding.label;
      const what = pool === undefined ? `a ${state} device` : `pool '${pool.name}' (${state})`;
      return `${formatSize(finding.sizeBytes)}, holds ${what}`;
    }
  }
}

function describeVolume(volume: VolumeConfig, create: boolean): string {
  const properties = [...volume.properties]
    .map(([name, value]) => ` ${name}=${name === 'volblocksize' ? formatSize(Number(value)) : value}`)
    .join('');
  const when = create ? 'would be created' : 'is created unless it exists';
  return `volume  ${volume.name}: ${formatSize(volume.sizeBytes)}${volume.sparse ? ', sparse' : ''}${properties}; ${when}`;
}
