import type { Core, ImportObject as CoreImportObject } from '../../build/types/core/core.d.ts';
import type { Program, ImportObject as ProgramImportObject } from '../../build/types/program/program.d.ts';

/**
 * The types of what crosses the seam, from wasm/zow.wit by way of build/types (zfs-src/seam.ts). jco writes the names of
 * JavaScript, `deviceOpen`; the modules have WIT's own, `device-open`.
 */
type Kebab<Name> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `-${Lowercase<First>}`}${Kebab<Rest>}`
  : '';

/** A function that suspends a fiber when a module imports it, and can be suspended when a module exports it. */
type Async = (...args: never[]) => Promise<unknown>;

/** The imports that a host gives for one interface. */
export type Imports<Interface> = {
  readonly [Name in keyof Interface as Kebab<Name>]: Interface[Name] extends Async
    ? WebAssembly.Suspending<Interface[Name]>
    : Interface[Name];
};

/** The exports that a module has of one interface. */
type Exports<Interface> = {
  readonly [Name in keyof Interface as Kebab<Name>]: Interface[Name] extends Async
    ? WebAssembly.Suspendable<Interface[Name]>
    : Interface[Name];
};

/** What all members of `Union` have together. */
type All<Union> = (Union extends unknown ? (member: Union) => void : never) extends (member: infer Each) => void
  ? Each
  : never;

/** The interfaces that modules import, by their name in wasm/zow.wit. */
type Imported = CoreImportObject & Omit<ProgramImportObject, keyof CoreImportObject>;
export type Seam = {
  readonly [Name in keyof Imported as Name extends `zow:seam/${infer Short}` ? Short : never]: Imports<Imported[Name]>;
};

type AllImports<World> = All<{ [Name in keyof World]: Imports<World[Name]> }[keyof World]>;
type AllExports<World> = All<{ [Name in keyof World]: Exports<World[Name]> }[keyof World]>;

/** The flat import object `zow` of each world, and its exports. */
export type CoreImports = AllImports<CoreImportObject>;
export type CoreExports = AllExports<Core>;
export type ProgramImports = AllImports<ProgramImportObject>;
export type ProgramExports = AllExports<Program>;

/** What is in every world: libc's, which runtime/module.ts serves. */
export type LibcImports = Seam['platform'] & Seam['switching'];
export type LibcExports = ProgramExports;

/** What an import answers when its completion comes later (IO_PENDING of wasm/libc/fiber.h). */
export const ioPending = -(2 ** 31);
