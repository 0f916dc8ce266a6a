import { StartError } from '../serve/errors.ts';
import type { LoadCore } from './api.ts';

/** Starts OpenZFS's core, build/<release>/wasm's module. */
export const loadCore: LoadCore = () => Promise.reject(new StartError(['the core is not built: run make']));
