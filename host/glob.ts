/**
 * Whether `text` matches a shell's pattern: `*` anything, `?` one character, `[a-z]` and `[!a-z]` one of a set, `\` the
 * next character as it is. In time that is at most the product of their lengths.
 */
export function matchesGlob(text: string, pattern: string): boolean {
  const tokens = tokensOf(pattern);
  let at = 0;
  let token = 0;
  let star = -1;
  let starAt = 0;
  while (at < text.length) {
    const next = tokens[token];
    if (next === anything) {
      star = token++;
      starAt = at;
    } else if (next?.(text[at]!) === true) {
      token++;
      at++;
    } else if (star >= 0) {
      // The last star takes one character more.
      token = star + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  while (tokens[token] === anything) token++;
  return token === tokens.length;
}

type Token = (character: string) => boolean;

const anything: Token = () => true;

function tokensOf(pattern: string): Token[] {
  const tokens: Token[] = [];
  for (let i = 0; i < pattern.length; i++) {
    const set = pattern[i] === '[' ? /^\[(!?)(\]?[^\]]*)\]/.exec(pattern.slice(i)) : null;
    if (pattern[i] === '*') {
      if (tokens.at(-1) !== anything) tokens.push(anything);
    } else if (pattern[i] === '?') {
      tokens.push(() => true);
    } else if (set !== null) {
      tokens.push(setOf(set[2]!, set[1] === '!'));
      i += set[0].length - 1;
    } else {
      if (pattern[i] === '\\' && i + 1 < pattern.length) i++;
      const literal = pattern[i]!;
      tokens.push((character) => character === literal);
    }
  }
  return tokens;
}

function setOf(members: string, negated: boolean): Token {
  const ranges: [string, string][] = [];
  for (let i = 0; i < members.length; i++) {
    const from = members[i]!;
    if (members[i + 1] === '-' && i + 2 < members.length) {
      ranges.push([from, members[i + 2]!]);
      i += 2;
    } else {
      ranges.push([from, from]);
    }
  }
  return (character) => ranges.some(([from, to]) => from <= character && character <= to) !== negated;
}
