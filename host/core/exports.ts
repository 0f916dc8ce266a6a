export { type CoreExports, ioPending } from '../runtime/seam.ts';
