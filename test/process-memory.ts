import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** Which of these are in the memory of a process. */
export async function memoryHas(pid: number, secrets: readonly Buffer[]): Promise<boolean[]> {
  const memory = await open(`/proc/${pid}/mem`);
  const has = secrets.map(() => false);
  const chunk = Buffer.alloc(16 << 20);
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    const end = Number.parseInt(to, 16);
    for (let at = Number.parseInt(from, 16); at < end; at += chunk.length - 64) {
      const length = Math.min(chunk.length, end - at);
      const { bytesRead } = await memory.read(chunk, 0, length, at).catch(() => ({ bytesRead: 0 }));
      for (const [i, secret] of secrets.entries()) has[i] ||= chunk.subarray(0, bytesRead).includes(secret);
    }
  }
  await memory.close();
  return has;
}
