/** Rules of module/zcommon/zfs_namecheck.c and zpool_name_valid() in lib/libzfs/libzfs_pool.c. */
const DATASET_NAME_BYTES_MAX = 255;
/** `pool/$ORIGIN@$ORIGIN` has to fit as well. */
const POOL_NAME_BYTES_MAX = DATASET_NAME_BYTES_MAX - 2 - 2 * '$ORIGIN'.length;
const NESTING_MAX = 50;

const INVALID_CHARACTER = /[^A-Za-z0-9\-_.: ]/u;

/** Why a pool cannot be created under this name; undefined when it can. */
export function poolNameProblem(name: string): string | undefined {
  if (name === '') return 'a pool needs a name';
  if (Buffer.byteLength(name) > POOL_NAME_BYTES_MAX) return `the name is longer than ${POOL_NAME_BYTES_MAX} bytes`;
  const invalid = INVALID_CHARACTER.exec(name);
  if (invalid !== null)
    return `'${printable(invalid[0])}' cannot be in a pool name; allowed are letters, digits and - _ . :`;
  if (!/^[A-Za-z]/.test(name)) return 'a pool name must begin with a letter';
  const reserved = /^(mirror|raidz|draid|spare)|^log$/.exec(name);
  if (reserved !== null) {
    return `the name is reserved; a pool name cannot begin with mirror, raidz, draid or spare, and cannot be log`;
  }
  return undefined;
}

/** Why a dataset cannot have this name (with its pool, without a snapshot); undefined when it can. */
export function datasetNameProblem(name: string): string | undefined {
  if (Buffer.byteLength(name) > DATASET_NAME_BYTES_MAX) {
    return `the name with its pool is longer than ${DATASET_NAME_BYTES_MAX} bytes`;
  }
  const components = name.split('/');
  if (components.length > NESTING_MAX) return `datasets nest at most ${NESTING_MAX} deep`;
  for (const component of components) {
    if (component === '') return `a dataset name cannot be empty, begin or end with '/', or contain '//'`;
    if (component === '.' || component === '..') return `'${component}' cannot be a part of a dataset name`;
    const invalid = INVALID_CHARACTER.exec(component);
    if (invalid !== null) {
      return `'${printable(invalid[0])}' cannot be in a dataset name; allowed are letters, digits, - _ . : and / between parts`;
    }
  }
  return undefined;
}

function printable(character: string): string {
  return JSON.stringify(character).slice(1, -1);
}
