import type { Inspector } from '../core/dev-zfs.ts';
import { Errno } from '../errno.ts';
import { emptyPacked, withString } from '../nvlist/packed.ts';
import { InspectError } from '../observe/inspect-error.ts';
import { clearKstats, packedKstats } from '../observe/kstats.ts';
import { setTunable } from '../observe/tunables.ts';
import { type Query, QueryKind } from './protocol.ts';

/** Does what a QUERY frame asks for: the packed nvlists of its ITEM frames. Rejects with ErrnoError. */
export async function* answer(inspector: Inspector, { kind, text }: Query): AsyncGenerator<Uint8Array> {
  if (text.includes('\0')) throw new InspectError(Errno.EINVAL, 'a NUL character in a query');
  switch (kind) {
    case QueryKind.kstats:
      yield* packedKstats(inspector, text);
      return;
    case QueryKind.kstatClear:
      await clearKstats(inspector, text);
      return;
    case QueryKind.tunables:
      yield await inspector.tunables();
      return;
    case QueryKind.tunableSet: {
      const equals = text.indexOf('=');
      if (equals < 1) throw new InspectError(Errno.EINVAL, 'a tunable is set with name=value');
      await setTunable(inspector, text.slice(0, equals), text.slice(equals + 1));
      return;
    }
    case QueryKind.status:
      if (inspector.status === undefined) throw new InspectError(Errno.ENOTTY, 'a host of one core has no status');
      yield withString(emptyPacked, 'json', await inspector.status());
      return;
    default:
      throw new InspectError(Errno.ENOTTY, `there is no query ${kind}`);
  }
}
