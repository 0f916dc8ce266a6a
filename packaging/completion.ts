import type { Command } from 'commander';

/**
 * Completions of the commands and options of `zow` for shells, from its table of commands. A program of upstream's completes as its own
 * name would, where the shell knows how.
 */
interface Entry {
  readonly name: string;
  readonly description: string;
  readonly options: readonly {
    readonly flags: readonly string[];
    readonly description: string;
    readonly takesValue: boolean;
  }[];
  /** Its arguments are files: configurations. */
  readonly takesFile: boolean;
  /** It is upstream's program, whose options are its own. */
  readonly isProgram: boolean;
}

function entriesOf(zow: Command): Entry[] {
  return zow.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    options: [
      ...command.options.map(({ short, long, description, required, optional }) => ({
        flags: [short, long].filter((flag) => flag !== undefined),
        description,
        takesValue: required || optional,
      })),
      ...(isProgram(command)
        ? []
        : [{ flags: ['-h', '--help'], description: 'display help for command', takesValue: false }]),
    ],
    takesFile: command.registeredArguments.some((argument) => argument.name() === 'config'),
    isProgram: isProgram(command),
  }));
}

function isProgram(command: Command): boolean {
  return command.registeredArguments.some((argument) => argument.name() === 'arguments');
}

const GENERATED = '# Made from the table of commands (packaging/completion.ts).';
const GLOBAL = ['--socket', '--version', '--help'];

export function bashCompletion(zow: Command): string {
  const entries = entriesOf(zow);
  const cases = entries.map(({ name, options, takesFile, isProgram }) => {
    if (isProgram) return `\t${name}) _command_offset "$at"; return ;;`;
    const words = options.flatMap(({ flags }) => flags).join(' ');
    const files = takesFile ? ' || _filedir "@(yaml|yml)"' : '';
    return `\t${name}) [[ $cur == -* ]] && COMPREPLY=($(compgen -W '${words}' -- "$cur"))${files} ;;`;
  });
  return `${GENERATED}
_zow() {
	local cur prev words cword at=1
	_init_completion || return
	while ((at < cword)) && [[ \${words[at]} == -* ]]; do
		[[ \${words[at]} == --socket ]] && ((at++))
		((at++))
	done
	if [[ $prev == --socket ]]; then
		_filedir
		return
	fi
	if ((at >= cword)); then
		COMPREPLY=($(compgen -W '${[...GLOBAL, ...entries.map(({ name }) => name)].join(' ')}' -- "$cur"))
		return
	fi
	case \${words[at]} in
${cases.join('\n')}
	esac
}
complete -F _zow zow
`;
}

export function zshCompletion(zow: Command): string {
  const entries = entriesOf(zow);
  const text = (description: string) => description.replaceAll("'", "'\\''").replaceAll(/([:[\]])/g, '\\$1');
  const commands = entries.map(({ name, description }) => `\t'${name}:${text(description)}'`).join('\n');
  const cases = entries.map(({ name, options, takesFile, isProgram }) => {
    if (isProgram) return `\t${name}) _normal -p zow ;;`;
    const flags = options.flatMap(({ flags: names, description, takesValue }) =>
      names.map((flag) => `'${flag}[${text(description)}]${takesValue ? ':value:' : ''}'`),
    );
    const files = takesFile ? [`'*:configuration:_files -g "*.(yaml|yml)"'`] : [];
    return `\t${name}) _arguments ${[...flags, ...files].join(' ')} ;;`;
  });
  return `#compdef zow
${GENERATED}
local -a commands
commands=(
${commands}
)
local curcontext=$curcontext state line
_arguments -C '--socket[where the host is]:socket:_files' '(-V --version)'{-V,--version}'[show the version]' \\
	'(-h --help)'{-h,--help}'[show help]' '1:command:->command' '*::argument:->argument'
case $state in
command) _describe command commands ;;
argument)
	case $words[1] in
${cases.join('\n')}
	esac
	;;
esac
`;
}

export function fishCompletion(zow: Command): string {
  const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = entriesOf(zow).flatMap(({ name, description, options, takesFile, isProgram }) => {
    const seen = `-n '__fish_seen_subcommand_from ${name}'`;
    const flags = options.map(({ flags: names, description: what, takesValue }) => {
      const words = names.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
      return `complete -c zow ${seen} ${words.join(' ')}${takesValue ? ' -x' : ''} -d ${quote(what)}`;
    });
    return [
      `complete -c zow -f -n __fish_use_subcommand -a ${name} -d ${quote(description)}`,
      ...flags,
      ...(takesFile ? [`complete -c zow ${seen} -F`] : []),
      ...(isProgram ? [`complete -c zow ${seen} -x -a '(__fish_complete_subcommand)'`] : []),
    ];
  });
  return `${GENERATED}
complete -c zow -f -n __fish_use_subcommand -l socket -r -F -d 'where the host is'
complete -c zow -f -n __fish_use_subcommand -s V -l version -d 'show the version'
complete -c zow -f -n __fish_use_subcommand -s h -l help -d 'show help'
${lines.join('\n')}
`;
}
