import test from 'ava';
import { serve } from '../../nbd/fixture.ts';
import { conformance, type MakeDisk } from '../conformance.ts';
import { connected, nbdkit, qemuNbd, serveFile } from './servers.ts';

/** The suite of all devices, over servers of others and over ours. */

const served =
  (command: Parameters<typeof serveFile>[0]): MakeDisk =>
  async (_t, bytes) => {
    const server = await serveFile(command, bytes);
    const disk = await connected(server.address);
    return {
      open: async (options) => disk.open(options),
      remove: async () => {
        await disk.close();
        await server.remove();
      },
    };
  };

conformance(test, 'nbdkit', served(nbdkit()));
conformance(test, 'nbdkit, simple replies', served(nbdkit('--no-sr')));
conformance(test, 'qemu-nbd', served(qemuNbd));
conformance(test, 'ZoW', async (t, bytes) => {
  const { provider, unix } = await serve(t);
  provider.add('tank/disk', bytes);
  const disk = await connected({ kind: 'unix', path: unix.unix!, exportName: 'tank/disk' });
  return { open: async (options) => disk.open(options), remove: () => disk.close() };
});
