import type { IscsiMetrics } from '../iscsi/metrics.ts';
import type { NbdMetrics } from '../nbd/metrics.ts';
import type { EngineSample, ProcessSample } from './sample.ts';
import { within } from './within.ts';

/** One core of the host, wherever it is. */
export interface EngineSource {
  /** A small number, the same as long as the engine lives. */
  readonly index: number;
  readonly pools: readonly string[];
  readonly sample: () => Promise<EngineSample>;
  /** For who looks at it live. */
  readonly look: () => Promise<EngineSample>;
}

/** A host, as far as it is measured. */
export interface HostSource {
  readonly release: string;
  readonly engines: readonly EngineSource[];
  /** Pools whose engine is lost. */
  readonly lostPools: readonly string[];
  /** Engines that were lost since the start. */
  readonly engineLosses: number;
  /** Of the process that has the listeners, where the cores are in others. */
  readonly supervisor?: (() => SupervisorSample) | undefined;
  readonly http: {
    readonly listener: string;
    readonly connections: { open: number; total: number; refused: number };
    readonly requests: ReadonlyMap<number, number>;
  };
}

export interface SupervisorSample {
  readonly process: ProcessSample;
  /** By listener. */
  readonly nbd: ReadonlyMap<string, NbdMetrics> | undefined;
  readonly iscsi: ReadonlyMap<string, IscsiMetrics> | undefined;
}

export interface HostSample extends Omit<HostSource, 'engines' | 'supervisor'> {
  /** Absent where nobody asks for it, or the cores are in this process. */
  readonly supervisor?: SupervisorSample | undefined;
  readonly engines: readonly {
    readonly index: number;
    readonly pools: readonly string[];
    /** Absent: it did not answer in time. */
    readonly sample: EngineSample | undefined;
  }[];
  /** How long asking took. */
  readonly seconds: number;
}

/** How long an engine has to answer, milliseconds: longer than its pools have. */
const ANSWER_MS = 1_000;

/** Asks all engines at once, for metrics or for who looks at them live. */
export async function sampleHost(source: HostSource, what: 'sample' | 'look' = 'sample'): Promise<HostSample> {
  const started = performance.now();
  const engines = await Promise.all(
    source.engines.map(async (engine) => ({
      index: engine.index,
      pools: engine.pools,
      sample: await within(ANSWER_MS, engine[what]()),
    })),
  );
  // It measures since it was asked last: who looks live does not ask it.
  const supervisor = what === 'sample' ? source.supervisor?.() : undefined;
  return { ...source, engines, supervisor, seconds: (performance.now() - started) / 1000 };
}
