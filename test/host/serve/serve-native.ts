/** `zow serve` on the real core with the native programs: `node serve-native.ts CONFIG`. */
import { serve } from '../../../host/serve/serve.ts';
import { nativePrograms } from './native.ts';

process.exit(await serve(process.argv[2] ?? '', { programs: nativePrograms }));
