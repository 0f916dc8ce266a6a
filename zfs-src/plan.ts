// What a build consists of: groups of sources compiled alike, archives of objects, and linked outputs. Paths are relative to the
// project's root, so that none of this machine's get into an artifact.

/** Sources that one compiler compiles with the same flags. */
export interface Group {
  /** Names the directory of its objects; unique in a plan. */
  readonly name: string;
  readonly compiler: string;
  readonly sources: readonly string[];
  readonly flags: readonly string[];
  /**
   * Words for the compiler that name the folder of the build, as `$(CURDIR)`, so that it does not get into what is made. They are
   * no part of what makes an object stale: a checkout that moves keeps its objects.
   */
  readonly placeFlags?: readonly string[];
}

/** A static library of the objects of some groups. */
export interface Archive {
  /** Output file. */
  readonly file: string;
  readonly archiver: string;
  readonly groups: readonly string[];
}

/** A linked program or wasm module. */
export interface Link {
  /** Output file. */
  readonly file: string;
  readonly linker: string;
  /** Words before the objects. */
  readonly flags: readonly string[];
  readonly groups: readonly string[];
  /** Archives among the plan's, in link order. */
  readonly archives: readonly string[];
  /** Words after the archives, such as system libraries. */
  readonly trailing: readonly string[];
}

export interface Plan {
  /** Directory of everything the build writes except the outputs of links. */
  readonly folder: string;
  /** Leading path components that are cut from the names of objects. */
  readonly prefixes: readonly string[];
  /** Text that stands for everything outside the flags that makes an object stale: compiler versions, our headers' names. */
  readonly fingerprint: string;
  /** Generated headers: content by path relative to `folder`. */
  readonly headers: ReadonlyMap<string, string>;
  readonly groups: readonly Group[];
  readonly archives: readonly Archive[];
  readonly links: readonly Link[];
}
