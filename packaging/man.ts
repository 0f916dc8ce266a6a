import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { lexer, type Token, type Tokens } from 'marked';

/** Man pages: zow(8) from the table of commands, zow.yaml(5) from docs/config.md. In man(7)'s macros, which every man reads. */

interface Page {
  readonly name: string;
  readonly section: number;
  readonly title: string;
  readonly version: string;
}

export function zowPage(zow: Command, version: string): string {
  const parts = [
    head({ name: 'zow', section: 8, title: zow.description(), version }),
    `.SH SYNOPSIS\n.B zow\n[\\fB\\-\\-socket\\fR \\fIpath\\fR] \\fIcommand\\fR [\\fIargument\\fR ...]`,
    `.SH DESCRIPTION\n${paragraphs(textAfter(zow))}`,
    `.SH OPTIONS\n${options(zow)}`,
    '.SH COMMANDS',
    ...zow.commands.map((command) => {
      const name = `.SS ${word(`zow ${command.name()} ${command.usage()}`.trim())}`;
      return [name, sentence(command.description()), options(command), paragraphs(textAfter(command))]
        .filter((part) => part !== '')
        .join('\n');
    }),
    '.SH FILES\n.TP\n.I /etc/zow/zow.yaml\nThe configuration that the systemd unit serves, see zow.yaml(5).\n.TP\n.I /run/zow/zow.sock\nWhere the programs find the host.',
    '.SH SEE ALSO\n.BR zow.yaml (5),\n.BR zpool (8),\n.BR zfs (8),\n.BR zdb (8)',
  ];
  return `${parts.join('\n')}\n`;
}

export function configPage(version: string): string {
  const tokens = lexer(readFileSync('docs/config.md', 'utf8'));
  const [title, ...rest] = tokens;
  if (title?.type !== 'heading') throw new Error('docs/config.md begins with no title');
  const page = { name: 'zow.yaml', section: 5, title: 'configuration of a ZoW host', version };
  return `${head(page)}\n.SH DESCRIPTION\n${blocks(rest)}\n.SH SEE ALSO\n.BR zow (8)\n`;
}

function head({ name, section, title, version }: Page): string {
  const named = `${escaped(name)} \\- ${escaped(title)}`;
  return `.\\" Generated (packaging/man.ts).\n.TH ${name.toUpperCase()} ${section} "" "ZoW ${version}" "ZoW"\n.SH NAME\n${named}`;
}

/** What its help says below the options. */
function textAfter(command: Command): string {
  let text = '';
  const write = (more: string) => {
    text += more;
  };
  command.configureOutput({ writeOut: write, writeErr: write, getOutHelpWidth: () => 100 });
  command.outputHelp();
  return text.slice(command.helpInformation().length).trim();
}

/** Text of a help: what is indented stays as it is, a line that ends with a colon is a heading. */
function paragraphs(text: string): string {
  if (text === '') return '';
  return text
    .split(/\n{2,}/)
    .map((part) => {
      if (/^ {2}/m.test(part)) {
        const lines = part.split('\n');
        const first = lines[0]!.startsWith(' ') ? [] : [escaped(lines.shift()!)];
        return [
          '.PP',
          ...first,
          '.nf',
          '.RS 2',
          ...lines.map((line) => escaped(line.replace(/^ {2}/, ''))),
          '.RE',
          '.fi',
        ].join('\n');
      }
      return `.PP\n${part.split('\n').map(escaped).join('\n')}`;
    })
    .join('\n');
}

function options(command: Command): string {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .map((option) => `.TP\n.B ${word(help.optionTerm(option))}\n${sentence(help.optionDescription(option))}`)
    .join('\n');
}

function sentence(text: string): string {
  return escaped(`${text.charAt(0).toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, '.'));
}

function blocks(tokens: readonly Token[]): string {
  return tokens
    .map((token) => block(token))
    .filter((text) => text !== '')
    .join('\n');
}

function block(token: Token): string {
  switch (token.type) {
    case 'space':
      return '';
    case 'heading':
      return `.${token.depth <= 2 ? 'SH' : 'SS'} ${word(plain(token.tokens ?? []))}`;
    case 'paragraph':
      return `.PP\n${inline(token.tokens ?? [])}`;
    case 'code':
      return `.PP\n.nf\n.RS 4\n${(token as Tokens.Code).text.split('\n').map(escaped).join('\n')}\n.RE\n.fi`;
    case 'list': {
      const { items, ordered } = token as Tokens.List;
      return items
        .map((item, index) => `.IP ${ordered ? `${index + 1}.` : '\\(bu'} 4\n${inline(item.tokens)}`)
        .join('\n');
    }
    case 'table': {
      const { rows } = token as Tokens.Table;
      return rows
        .map(([term, ...cells]) => {
          const [meaning, otherwise] = cells.map((cell) => inline(cell.tokens));
          const more = otherwise === undefined || otherwise === '' ? '' : `\n.br\nDefault: ${otherwise.trimStart()}`;
          return `.TP\n${inline(term!.tokens)}\n${meaning || '\\&'}${more}`;
        })
        .join('\n');
    }
    default:
      throw new Error(`a man page has no ${token.type}: ${token.raw}`);
  }
}

function inline(tokens: readonly Token[]): string {
  const text = tokens.map((token) => piece(token)).join('');
  // A line that begins with a dot or a quote would be a request.
  return text.replaceAll(/^([.'])/gm, '\\&$1');
}

function piece(token: Token): string {
  switch (token.type) {
    case 'text':
    case 'paragraph': {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? escaped(unescaped(text)) : tokens.map(piece).join('');
    }
    case 'escape':
      return escaped((token as Tokens.Escape).text);
    case 'codespan':
      return `\\fB${escaped((token as Tokens.Codespan).text)}\\fR`;
    case 'strong':
    case 'em':
      return `\\fI${(token.tokens ?? []).map(piece).join('')}\\fR`;
    case 'link': {
      const { href, tokens } = token as Tokens.Link;
      const text = tokens.map(piece).join('');
      return href.startsWith('http') ? `${text} (${escaped(href)})` : text;
    }
    case 'br':
      return '\n.br\n';
    default:
      throw new Error(`a man page has no ${token.type}: ${token.raw}`);
  }
}

function plain(tokens: readonly Token[]): string {
  return tokens.map((token) => ('text' in token ? String(token.text) : token.raw)).join('');
}

function unescaped(text: string): string {
  const names: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
  return text.replaceAll(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => names[name]!);
}

function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .replace(/^([.'])/, '\\&$1');
}

/** One argument of a request. */
function word(text: string): string {
  return `"${escaped(text).replaceAll('"', '""')}"`;
}
