import test from 'ava';
import { logText } from '../../host/log-text.ts';

const plain = { details: false, color: false };

function line(entry: object): string {
  return `${JSON.stringify({ level: 30, time: '2026-11-26T12:00:00.000Z', pid: 7, ...entry })}\n`;
}

test('a log line for people has time, level, what happened and with what', (t) => {
  const text = logText(
    line({ level: 40, pool: 'tank', reason: 'two words', listeners: ['a', 'b'], msg: 'it happened' }),
    plain,
  );
  t.regex(text ?? '', /^\d\d:\d\d:\d\d warn {2}it happened pool=tank reason="two words" listeners=a,b\n$/);
  const failed = logText(
    line({ err: { type: 'Error', message: 'no space', stack: 'Error: no space\n at x' }, msg: 'cannot' }),
    plain,
  );
  t.regex(failed ?? '', /info {2}cannot: no space\n$/, 'where in the program it was is not for an operator');
  const broken = logText(
    line({ level: 60, err: { message: 'bug', stack: 'Error: bug\n at x' }, msg: 'internal error' }),
    plain,
  );
  t.regex(broken ?? '', /fatal internal error: Error: bug\n +at x\n$/, 'of an internal error it is');
});

test('details are left out unless they are wanted; a terminal has colors', (t) => {
  const detail = line({ detail: true, msg: 'step' });
  t.is(logText(detail, plain), undefined);
  t.regex(logText(detail, { ...plain, details: true }) ?? '', /info {2}step\n$/);
  t.true(
    logText(line({ level: 50, msg: 'x' }), { details: false, color: true })!.includes('\u001b[31merror\u001b[39m'),
  );
  t.is(logText('no JSON\n', plain), 'no JSON\n');
});
