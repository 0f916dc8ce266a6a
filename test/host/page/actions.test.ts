import test from 'ava';
import { ActionError, commandLine, commandOf } from '../../../host/page/actions.ts';

test('what is asked for, and the command that does it', (t) => {
  const cases: [object, string, string?][] = [
    [{ do: 'scrub', pool: 'tank' }, 'zpool scrub tank'],
    [{ do: 'scrub-pause', pool: 'tank' }, 'zpool scrub -p tank'],
    [{ do: 'scrub-stop', pool: 'a pool' }, "zpool scrub -s 'a pool'"],
    [{ do: 'clear', pool: 'tank' }, 'zpool clear tank'],
    [{ do: 'snapshot', dataset: 'tank/vm 0', name: '2026-11-27' }, "zfs snapshot 'tank/vm 0@2026-11-27'"],
    [{ do: 'rollback', snapshot: 'tank/v@a' }, 'zfs rollback tank/v@a', 'tank/v@a'],
    [{ do: 'rollback', snapshot: 'tank/v@a', newer: true }, 'zfs rollback -r tank/v@a', 'tank/v@a'],
    [{ do: 'create', dataset: 'tank/vms/v', size: '1.5G' }, 'zfs create -V 1.5G tank/vms/v'],
    [
      { do: 'create', dataset: 'tank/v', size: '1G', sparse: true, volblocksize: '8K', compression: 'zstd-3' },
      'zfs create -s -o volblocksize=8K -o compression=zstd-3 -V 1G tank/v',
    ],
    [{ do: 'destroy', dataset: 'tank/v' }, 'zfs destroy tank/v', 'tank/v'],
    [{ do: 'destroy', dataset: 'tank/v', snapshots: true }, 'zfs destroy -r tank/v', 'tank/v'],
    [{ do: 'destroy-snapshot', snapshot: 'tank/v@a' }, 'zfs destroy tank/v@a', 'tank/v@a'],
  ];
  for (const [fields, line, confirm] of cases) {
    const command = commandOf(fields as Record<string, unknown>);
    t.is(commandLine(command), line);
    t.is(command.confirm, confirm, line);
  }
});

test('what is no name is in no command', (t) => {
  const cases: [object, RegExp][] = [
    [{}, /^do: must be one of scrub, /],
    [{ do: 'toString' }, /^do: /],
    [{ do: 'scrub' }, /^pool: is missing$/],
    [{ do: 'scrub', pool: '-s' }, /^pool: '-s' cannot be$/],
    [{ do: 'scrub', pool: ['tank'] }, /^pool: is missing$/],
    [{ do: 'scrub', pool: 'tank/v' }, /^pool: /],
    [{ do: 'scrub', pool: `t${'a'.repeat(300)}` }, /^pool: /],
    [{ do: 'snapshot', dataset: 'tank/v', name: 'a b ' }, /^name: /],
    [{ do: 'snapshot', dataset: 'tank/v', name: 'a@b' }, /^name: /],
    [{ do: 'snapshot', dataset: '-r', name: 'a' }, /^dataset: /],
    [{ do: 'snapshot', dataset: 'tank/v', name: 'a\nb' }, /^name: /],
    [{ do: 'rollback', snapshot: 'tank/v' }, /^snapshot: /],
    [{ do: 'rollback', snapshot: 'tank/v@a@b' }, /^snapshot: /],
    [{ do: 'rollback', snapshot: 'tank/v@a', newer: 'yes' }, /^newer: must be true or false$/],
    [{ do: 'create', dataset: 'tank', size: '1G' }, /^dataset: /],
    [{ do: 'create', dataset: 'tank/../v;rm', size: '1G' }, /^dataset: /],
    [{ do: 'create', dataset: 'tank/v', size: '-1' }, /^size: /],
    [{ do: 'create', dataset: 'tank/v', size: '1G', compression: 'lz4 -o x=y' }, /^compression: /],
    [{ do: 'destroy', dataset: 'tank' }, /^dataset: a pool is not destroyed here$/],
    [{ do: 'destroy', dataset: 'tank/v@a' }, /^dataset: /],
    [{ do: 'destroy-snapshot', snapshot: 'tank/v@a,b' }, /^snapshot: /],
    [{ do: 'destroy-snapshot', snapshot: 'tank/v@a%b' }, /^snapshot: /],
  ];
  for (const [fields, message] of cases)
    t.throws(() => commandOf(fields as Record<string, unknown>), { instanceOf: ActionError, message });
});
