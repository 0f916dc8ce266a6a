export type Labels = { readonly [name: string]: string };

export interface Sample {
  /** The registry writes an object's labels once, however many samples have it. */
  readonly sharedLabels: Labels;
  readonly value: number;
  /** Of a histogram: `…_bucket`, `…_count`, `…_sum`. */
  readonly metricName?: string;
}

/** All samples of one name. */
export interface Family {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly samples: Sample[];
}

const texts = new Map<number, string>();

/** Of a bound: there are few, and each is written often. */
function textOf(bound: number): string {
  let text = texts.get(bound);
  if (text === undefined) {
    text = String(bound);
    texts.set(bound, text);
  }
  return text;
}

/** How many scrapes label sets are kept for: those of volumes that are gone go with them. */
const SCRAPES_KEPT = 60;

/** What was made of a label set by one more label, by its name and value: no label itself, for who lists them. */
const made = Symbol('made');
type Interned = Labels & { [made]?: Map<string, Map<string, Labels>> };

/** Label sets by what they are made of: the same object in each scrape, so that it is written as text once. */
export class LabelSets {
  #root: Labels = {};
  #scrapes = 0;

  /** A scrape begins. What each set was made from is to be asked for again. */
  begin(): Labels {
    if (++this.#scrapes % SCRAPES_KEPT === 0) this.#root = {};
    return this.#root;
  }

  /** Those of `base`, and one more. */
  with(base: Labels, name: string, value: string): Labels {
    const from: Interned = base;
    from[made] ??= new Map();
    const byName = from[made];
    let byValue = byName.get(name);
    if (byValue === undefined) {
      byValue = new Map();
      byName.set(name, byValue);
    }
    let labels = byValue.get(value);
    if (labels === undefined) {
      const more: Record<string, string> = {};
      for (const [key, each] of Object.entries(base)) more[key] = each;
      more[name] = value;
      labels = more;
      byValue.set(value, labels);
    }
    return labels;
  }
}

/** Collects families, in the order in which they are first named. */
export class Families {
  readonly #families = new Map<string, Family>();
  readonly #sets: LabelSets;
  readonly #root: Labels;

  constructor(sets: LabelSets) {
    this.#sets = sets;
    this.#root = sets.begin();
  }

  /** Labels of what there is much of, from names and values in turn. */
  labels(...words: readonly string[]): Labels {
    let labels = this.#root;
    for (let i = 0; i < words.length; i += 2) labels = this.#sets.with(labels, words[i]!, words[i + 1]!);
    return labels;
  }

  /** `base`, which came from labels(), and one more. */
  with(base: Labels, name: string, value: string): Labels {
    return this.#sets.with(base, name, value);
  }

  get all(): readonly Family[] {
    return [...this.#families.values()];
  }

  gauge(name: string, help: string, value: number | undefined, labels: Labels = {}): void {
    this.#add(name, 'gauge', help, value, labels);
  }

  /** `name` ends with `_total`. */
  counter(name: string, help: string, value: number | undefined, labels: Labels = {}): void {
    this.#add(name, 'counter', help, value, labels);
  }

  /** `labels` came from labels(). `buckets`: each has only its own, by `bounds`, and one more the rest. `sum`: undefined where it is not measured. */
  histogram(
    name: string,
    help: string,
    { bounds, buckets, sum }: { bounds: readonly number[]; buckets: readonly number[]; sum?: number },
    labels: Labels,
  ): void {
    const { samples } = this.#family(name, 'histogram', help);
    let total = 0;
    const metricName = `${name}_bucket`;
    for (const [i, bucket] of buckets.entries()) {
      total += bucket;
      const le = i < bounds.length ? textOf(bounds[i]!) : '+Inf';
      samples.push({ metricName, sharedLabels: this.#sets.with(labels, 'le', le), value: total });
    }
    if (sum !== undefined) samples.push({ metricName: `${name}_sum`, sharedLabels: labels, value: sum });
    samples.push({ metricName: `${name}_count`, sharedLabels: labels, value: total });
  }

  /** What is not known is not told. */
  #add(name: string, type: Family['type'], help: string, value: number | undefined, labels: Labels): void {
    if (value === undefined || !Number.isFinite(value)) return;
    this.#family(name, type, help).samples.push({ sharedLabels: labels, value });
  }

  #family(name: string, type: Family['type'], help: string): Family {
    let family = this.#families.get(name);
    if (family === undefined) {
      family = { name, type, help, samples: [] };
      this.#families.set(name, family);
    }
    return family;
  }
}
