import type { Urgency } from '../domain/rank.ts';

/**
 * Words in descriptions that tell of an urgency, where no code does. They are found as whole words, in any case of
 * letters: `STAT` is not found in "STATUS" or "PROSTATE", nor behind "non" or "not". Off unless a policy has them, since
 * what technologists type is no order.
 */
export interface TextHints {
  readonly stat?: readonly string[] | undefined;
  readonly urgent?: readonly string[] | undefined;
}

/** Urgencies, the highest first, each with the pattern of its words. */
export type TextHintPatterns = readonly (readonly [Urgency, RegExp])[];

const WORD = String.raw`[\p{L}\p{N}\p{M}]`;
const NEGATED = String.raw`(?<!(?:^|[^\p{L}\p{N}])(?:non|not|no)[\s_-]{0,3})`;

/** @returns undefined where there is no word to look for */
export function compileTextHints(hints: TextHints): TextHintPatterns | undefined {
  const patterns: (readonly [Urgency, RegExp])[] = [];
  for (const urgency of ['stat', 'urgent'] as const) {
    const words = (hints[urgency] ?? []).map(literal);
    if (words.length === 0) continue;
    patterns.push([urgency, new RegExp(`${NEGATED}(?<!${WORD})(?:${words.join('|')})(?!${WORD})`, 'iu')]);
  }
  return patterns.length > 0 ? patterns : undefined;
}

/** A word as it is meant, whatever stands between its parts. */
function literal(word: string): string {
  return word
    .normalize('NFC')
    .trim()
    .split(/\s+/)
    .map((part) => part.replace(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`))
    .join(String.raw`[\s_-]+`);
}
