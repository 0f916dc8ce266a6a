import { Ajv, type ErrorObject } from 'ajv';
import { suggest } from '../suggest.ts';
import { type KeyPath, quote } from './problem.ts';
import schema from './schema.json' with { type: 'json' };

/** Something the schema does not allow; `at` says whether the key or its value is wrong. */
export interface SchemaProblem {
  readonly path: KeyPath;
  readonly at: 'key' | 'value';
  readonly message: string;
}

/** The members of a schema node that messages are made from. */
interface SchemaNode {
  readonly 'x-allowed'?: string;
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly oneOf?: readonly { readonly required?: readonly string[] }[];
}

/** Far more than anyone reads, and a bound on what a hostile file makes us say. */
const PROBLEMS_MAX = 100;

function compile() {
  const ajv = new Ajv({ allErrors: true, verbose: true, ownProperties: true, allowUnionTypes: true });
  // Phrases for people: "must be <x-allowed>". Other validators ignore the keyword.
  ajv.addKeyword({ keyword: 'x-allowed', schemaType: 'string' });
  return ajv.compile(schema);
}

let compiled: ReturnType<typeof compile> | undefined;

/** All that host/config/schema.json does not allow in `value`. */
export function schemaProblems(value: unknown): SchemaProblem[] {
  compiled ??= compile();
  if (compiled(value)) return [];
  const problems: SchemaProblem[] = [];
  for (const error of compiled.errors ?? []) {
    if (problems.length >= PROBLEMS_MAX) break;
    // The branches of a oneOf say less than the oneOf itself.
    if (error.schemaPath.includes('/oneOf/')) continue;
    problems.push(explain(error, value));
  }
  return problems;
}

function explain(error: ErrorObject, root: unknown): SchemaProblem {
  const path = pointerToPath(error.instancePath, root);
  const node = error.parentSchema as SchemaNode;
  if (error.keyword === 'additionalProperties') {
    const key = String(error.params.additionalProperty);
    const allowed = Object.keys(node.properties ?? {});
    const meant = suggest(key, allowed);
    const hint = meant === undefined ? '' : `; did you mean '${meant}'?`;
    const end = hint === '' ? '; allowed are' : ' Allowed are';
    return { path: [...path, key], at: 'key', message: `unknown key${hint}${end} ${allowed.join(', ')}` };
  }
  if (error.keyword === 'required') {
    const key = String(error.params.missingProperty);
    const allowed = phrase(resolve(node.properties?.[key]));
    return { path, at: 'key', message: `the key '${key}' is missing${allowed === undefined ? '' : `: ${allowed}`}` };
  }
  if (error.keyword === 'oneOf') {
    const alternatives = (node.oneOf ?? []).flatMap(({ required }) => required ?? []);
    return { path, at: 'value', message: `needs exactly one of ${alternatives.join(' and ')}` };
  }
  const allowed = phrase(node) ?? error.message ?? 'something else';
  const meant =
    typeof error.data === 'string' && node.enum !== undefined ? suggest(error.data, node.enum.map(String)) : undefined;
  const hint = meant === undefined ? '' : `; did you mean '${meant}'?`;
  return {
    path,
    at: 'value',
    message: `must be ${allowed}, not ${quote(error.data)}${hint}${booleanHint(error, node)}`,
  };
}

/** YAML readers differ about `on`; whoever writes `true` for a ZFS property deserves the word. */
function booleanHint(error: ErrorObject, node: SchemaNode): string {
  if (typeof error.data !== 'boolean' || node.enum?.includes('on') !== true) return '';
  return `; ZFS writes it ${error.data ? 'on' : 'off'}`;
}

function phrase(node: SchemaNode | undefined): string | undefined {
  if (node === undefined) return undefined;
  if (node['x-allowed'] !== undefined) return node['x-allowed'];
  if (node.enum !== undefined) return `one of ${node.enum.join(', ')}`;
  return undefined;
}

/** Follows the one kind of reference the schema uses, `#/definitions/name`. */
function resolve(node: SchemaNode | undefined): SchemaNode | undefined {
  if (node?.$ref === undefined || node['x-allowed'] !== undefined) return node;
  const definitions: Readonly<Record<string, unknown>> = schema.definitions;
  return definitions[node.$ref.slice('#/definitions/'.length)] as SchemaNode | undefined;
}

/** A JSON pointer as a key path; array indexes become numbers by looking at what they index. */
function pointerToPath(pointer: string, root: unknown): KeyPath {
  if (pointer === '') return [];
  const path: (string | number)[] = [];
  let value = root;
  for (const encoded of pointer.slice(1).split('/')) {
    const part = encoded.replaceAll('~1', '/').replaceAll('~0', '~');
    path.push(Array.isArray(value) ? Number(part) : part);
    value = (value as Record<string, unknown> | null | undefined)?.[part];
  }
  return path;
}
