import { resolve } from 'node:path';
import { loadConfig } from '../../host/config/load.ts';
import { QueryKind } from '../../host/ioctl/protocol.ts';
import { defaultSocketPath } from '../../host/ioctl/socket-path.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { print } from '../../host/print.ts';
import { ExitCode } from '../../host/serve/errors.ts';
import type { ReloadReport } from '../../host/zow.ts';
import { show, withHost } from './host.ts';
import { explain } from './serve.ts';

type Answer = { readonly report: ReloadReport } | { readonly errors: readonly string[] };

/** `zow check --diff`: what the host that serves the configuration's socket would change. Resolves with the exit code. */
export async function diffCommand(file: string, given: string | undefined): Promise<number> {
  let socket: string;
  try {
    // What is wrong with the file is said of the file as it is named here.
    socket = given ?? loadConfig(file, { defaultSocket: defaultSocketPath() }).socket;
  } catch (error) {
    return explain(error);
  }
  let errors: readonly string[] = [];
  const code = await withHost(socket, async (host) => {
    for await (const packed of host.query({ kind: QueryKind.difference, text: resolve(file) })) {
      const answer = JSON.parse(String(decodeNativeNvlist(packed).get('json'))) as Answer;
      if ('report' in answer) show(differenceText(answer.report));
      else errors = answer.errors;
    }
  });
  print(2, errors.map((error) => `zow: ${error}\n`).join(''));
  return errors.length > 0 ? ExitCode.usage : code;
}

function differenceText({ changes, fixed, left }: ReloadReport): string {
  const lines = [
    ...changes.map((line) => `change  ${line}`),
    ...fixed.map((line) => `start   ${line}`),
    ...left.map((line) => `left    ${line}`),
  ];
  return lines.length === 0 ? 'nothing would change\n' : `${lines.join('\n')}\n`;
}
