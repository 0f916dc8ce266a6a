import test from 'ava';
import { skip } from '../skip.ts';
import { execute, Lab } from './host.ts';

/** The number by which a machine is known to others (multihost): of a host that sees an /etc of its own. */
const SCRIPT = `
  set -e
  mkdir -p run && cp -a /etc etc && rm -f etc/hostid
  unset ZFS_HOSTID
  echo '{socket: run/zow.sock, memory: 512M, zed: false, pools: {}}' > pool.yaml
  unshare -m sh -c 'mount --bind etc /etc && exec setpriv --pdeathsig KILL zow serve --no-hints pool.yaml' > host.log 2>&1 &
  trap 'kill -KILL $! 2>/dev/null || true' EXIT
  for i in $(seq 300); do grep -q '"msg":"ready"' host.log && break; sleep 0.1; done
  zpool create -o multihost=on tank "$1" 2>&1 && exit 3
  printf '\\004\\003\\002\\001' > etc/hostid
  zpool create -o multihost=on tank "$1"
  zpool get -Ho value multihost tank
  zpool export tank
  zdb -l "$1" | grep -o 'hostid: .*'
  kill -TERM $!
  wait $!`;

test('a hostid that is made while the host runs counts from then on', async (t) => {
  const lab = await Lab.open(t);
  const { code, stderr } = await execute('unshare', ['-m', 'true']);
  if (code !== 0) return skip(t, `no mounts of one's own here: ${stderr}`);
  const result = await lab.shell(SCRIPT.replaceAll('$1', lab.disk('a')));
  t.is(result.code, 0, result.stdout + result.stderr);
  t.regex(result.stdout, /hostid/, 'none at first');
  t.regex(result.stdout, new RegExp(`^on\nhostid: ${0x01020304}\n`, 'm'));
});
