/** `zow serve` on the real core with the native programs: `node serve-native.ts CONFIG`. */
import { serve } from '../../../cli/commands/serve.ts';
import { nativePrograms } from '../../host/serve/native.ts';

process.exit(await serve(process.argv[2] ?? '', { programs: nativePrograms }));
