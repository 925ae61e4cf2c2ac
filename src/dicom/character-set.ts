import { TextDecoder } from 'node:util';
import type { Oddity } from '../domain/oddity.ts';

type CharacterSetOddity = Extract<Oddity, `charset-${string}`>;

/** What an escape sequence or a defined term designates: the table, and how its bytes become those of a decoder. */
interface CodeTable {
  /** A label of the WHATWG Encoding Standard, whose decoders bring the tables; null for ASCII and what is like it. */
  readonly label: string | null;
  /** Bytes for one character. */
  readonly width: 1 | 2;
  /** G0 is for bytes below 0x80, G1 for those from 0x80 on (PS3.5 section 6.1.2.1). */
  readonly side: 'G0' | 'G1';
  /** Put before each character; 0x8f chooses the supplementary table of EUC-JP. */
  readonly prefix?: number;
  /** Bytes that are not in the set, though the decoder takes them for something. */
  readonly lacks?: RegExp;
}

const ESC = 0x1b;
const SPACE = 0x20;
const ASCII: CodeTable = { label: null, width: 1, side: 'G0' };
const single = (label: string): CodeTable => ({ label, width: 1, side: 'G1' });
/** JIS X 0201 is the katakana of Shift JIS, whose other bytes begin kanji. */
const KATAKANA: CodeTable = { ...single('shift_jis'), lacks: /[^\xa1-\xdf]/ };
/** TIS 620; older Node.js has private use characters where there is nothing. */
const THAI: CodeTable = { ...single('windows-874'), lacks: /[\xdb-\xde\xfc-\xff]/ };

/** By what follows ESC (PS3.3 tables C.12-3 and C.12-4). */
const BY_ESCAPE: ReadonlyMap<string, CodeTable> = new Map([
  ['(B', ASCII],
  // JIS X 0201 romaji: ASCII but for two signs, which senders of paths and ranges mean as in ASCII.
  ['(J', ASCII],
  [')I', KATAKANA],
  ['-A', single('windows-1252')],
  ['-B', single('iso-8859-2')],
  ['-C', single('iso-8859-3')],
  ['-D', single('iso-8859-4')],
  ['-L', single('iso-8859-5')],
  ['-G', single('iso-8859-6')],
  ['-F', single('iso-8859-7')],
  ['-H', single('iso-8859-8')],
  ['-M', single('windows-1254')],
  ['-T', THAI],
  ['-b', single('iso-8859-15')],
  ['$B', { label: 'euc-jp', width: 2, side: 'G0' }],
  ['$@', { label: 'euc-jp', width: 2, side: 'G0' }],
  ['$(D', { label: 'euc-jp', width: 2, side: 'G0', prefix: 0x8f }],
  // The decoders have more than KS X 1001 and GB 2312: what they add is what senders mean who write it.
  ['$)C', { label: 'euc-kr', width: 2, side: 'G1' }],
  ['$)A', { label: 'gbk', width: 2, side: 'G1' }],
]);

/** The escape sequence that designates what a defined term stands for, by the number in it (PS3.3 tables C.12-2 to -4). */
const ESCAPES: Readonly<Record<string, string>> = {
  '6': '(B',
  '13': ')I',
  '87': '$B',
  '100': '-A',
  '101': '-B',
  '109': '-C',
  '110': '-D',
  '126': '-F',
  '127': '-G',
  '138': '-H',
  '144': '-L',
  '148': '-M',
  '149': '$)C',
  '159': '$(D',
  '166': '-T',
  '203': '-b',
  '58': '$)A',
};
/** Whole encodings, which know no escape sequences (PS3.3 table C.12-5), as normalised. */
const WHOLE: Readonly<Record<string, string>> = {
  '192': 'utf-8',
  UTF8: 'utf-8',
  GB18030: 'gb18030',
  GBK: 'gbk',
  // Never defined, but written by some.
  GB2312: 'gbk',
  ISO2022GBK: 'gbk',
  ISO2022GB2312: 'gbk',
};
/** Windows-1252, as what was meant as Latin-1 mostly is, from 80 to 9F; the rest is as in Latin-1, and so are the five places where it has nothing. */
const WINDOWS_1252 = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ';

/** Decoders of one label: the first throws at what it does not know, the second puts U+FFFD there. */
interface Decoders {
  readonly strict: TextDecoder;
  readonly lenient: TextDecoder;
}

const decodersByLabel = new Map<string, Decoders | null>();

/**
 * Decodes the text of one data set by its Specific Character Set (0008,0005), with and without code extensions
 * (PS3.3 C.12.1.1.2, PS3.5 section 6.1.2). Never fails: what cannot be decoded is shown as well as can be, and flagged.
 *
 * ISO 8859-1 and -9 are decoded as Windows-1252 and -1254, as the decoders of the web do: the standard has nothing at
 * the places where these differ, and senders mean what Windows has there.
 */
export class TextDecoding {
  readonly #oddities = new Set<CharacterSetOddity>();
  /** Label of an encoding without code extensions. */
  readonly #whole: string | undefined;
  /** What each value begins with. */
  readonly #g1: CodeTable | undefined;
  readonly #g0: CodeTable;
  readonly #declared = new Set<string>();
  readonly #isKnown: boolean;
  /** A whole encoding is to be the only value: beside another, nothing says which of them a text is in. */
  readonly #isAmbiguous: boolean;

  /** @param specificCharacterSet - As in the data set, values separated by a backslash; undefined where there is none. */
  constructor(specificCharacterSet: string | undefined) {
    const terms = (specificCharacterSet ?? '').split('\\').map(normalised);
    const [first = '6'] = terms;
    // Some name a whole encoding beside other sets, or after an empty first value.
    const whole = terms.find((term) => term in WHOLE);
    this.#whole = whole === undefined ? undefined : WHOLE[whole];
    this.#isAmbiguous = whole !== undefined && terms.filter((term) => term !== '6').length > 1;
    for (const term of terms) if (term in ESCAPES) this.#declared.add(ESCAPES[term] ?? '');
    const other = terms.find((term) => term in ESCAPES && term !== '6');
    const initial = BY_ESCAPE.get(ESCAPES[whole === undefined ? first : (other ?? '6')] ?? '(B') ?? ASCII;
    this.#g1 = initial.side === 'G1' ? initial : undefined;
    this.#g0 = initial.side === 'G0' && initial.width === 1 ? initial : ASCII;
    this.#isKnown = terms.every((term) => term in WHOLE || term in ESCAPES);
  }

  get oddities(): ReadonlySet<CharacterSetOddity> {
    return this.#oddities;
  }

  /**
   * @param value - One character for each byte, padding taken off.
   * @param isName - A PN: its delimiters end a designation too (PS3.5 section 6.1.2.5.3).
   * @returns text; several values stay separated by a backslash
   */
  decode(value: string, isName: boolean): string {
    // Below 0x80 every set has ASCII, until an escape sequence says otherwise.
    if (!hasSpecial(value)) return value;
    if (!this.#isKnown) this.#oddities.add('charset-unknown');
    const bytes = Buffer.from(value, 'latin1');
    if (this.#whole !== undefined && !hasDesignation(value)) return this.#inWhole(this.#whole, bytes);
    if (this.#g1 === undefined && !bytes.includes(ESC)) return this.#undeclared(bytes);
    return this.#extended(bytes, isName);
  }

  #inWhole(label: string, bytes: Buffer): string {
    if (!this.#isAmbiguous) return this.#text(label, bytes);
    this.#oddities.add('charset-undeclared');
    return decoded(label, bytes) ?? (this.#g1 === undefined ? this.#text(label, bytes) : this.#run(bytes, this.#g1));
  }

  /** Bytes from 0x80 on where no set for them is declared. */
  #undeclared(bytes: Buffer): string {
    if (this.#isKnown) this.#oddities.add('charset-undeclared');
    return decoded('utf-8', bytes) ?? windows1252(bytes);
  }

  #extended(bytes: Buffer, isName: boolean): string {
    let [g0, g1] = [this.#g0, this.#g1];
    let text = '';
    for (let at = 0; at < bytes.length; ) {
      const byte = bytes[at] ?? 0;
      if (byte === ESC) {
        const sequence = escapeAt(bytes, at + 1, isName);
        const table = BY_ESCAPE.get(sequence);
        at += 1 + sequence.length;
        if (table === undefined) {
          this.#oddities.add('charset-malformed');
          text += '\ufffd';
        } else {
          if (!this.#declared.has(sequence) && sequence !== '(B') this.#flagEscape(sequence);
          if (table.side === 'G0') g0 = table;
          else g1 = table;
        }
        continue;
      }
      if (endsDesignation(byte, isName, g0)) [g0, g1] = [this.#g0, this.#g1];
      const end = runEnd(bytes, at, isName, g0);
      text += this.#run(bytes.subarray(at, end), byte <= SPACE ? ASCII : byte < 0x80 ? g0 : g1);
      at = end;
    }
    return text;
  }

  /** JIS X 0201 has two sequences, of which its term stands for both. */
  #flagEscape(sequence: string): void {
    const isRomaji = sequence === '(J' && (this.#declared.has(')I') || this.#declared.has('$B'));
    if (!isRomaji) this.#oddities.add('charset-undeclared');
  }

  #run(bytes: Buffer, table: CodeTable | undefined): string {
    if (table === undefined) return this.#undeclared(bytes);
    if (table.label === null) return bytes.toString('latin1');
    if (table.side === 'G1') return this.#high(table.label, bytes, table.lacks);
    const raised: number[] = [];
    for (let at = 0; at < bytes.length; at += table.width) {
      if (table.prefix !== undefined) raised.push(table.prefix);
      for (const byte of bytes.subarray(at, at + table.width)) raised.push(byte | 0x80);
    }
    return this.#text(table.label, Buffer.from(raised));
  }

  #high(label: string, bytes: Buffer, lacks: RegExp | undefined): string {
    if (lacks === undefined) return this.#text(label, bytes);
    const pieces = bytes.toString('latin1').split(lacks);
    if (pieces.length > 1) this.#oddities.add('charset-malformed');
    return pieces.map((piece) => this.#text(label, Buffer.from(piece, 'latin1'))).join('\ufffd');
  }

  #text(label: string, bytes: Buffer): string {
    const text = decoded(label, bytes);
    if (text !== undefined) return text;
    const decoders = decodersOf(label);
    if (decoders === null) {
      this.#oddities.add('charset-unknown');
      return bytes.toString('latin1');
    }
    this.#oddities.add('charset-malformed');
    // What is no UTF-8 though it is called so was written in one of the older sets.
    if (label === 'utf-8') return windows1252(bytes);
    return decoders.lenient.decode(bytes);
  }
}

/** The number of a defined term, or the name of a whole encoding, whatever is between its words. */
function normalised(term: string): string {
  const text = term.trim().toUpperCase();
  if (text === '') return '6';
  const number = /^ISO(?:[ _-]?2022)?(?:[ _-]?IR)?[ _-]?(\d+)$/.exec(text)?.[1];
  return number ?? text.replace(/[ _-]/g, '');
}

function hasSpecial(value: string): boolean {
  for (let at = 0; at < value.length; at += 1) {
    const code = value.charCodeAt(at);
    if (code >= 0x80 || code === ESC) return true;
  }
  return false;
}

/** A sequence that is known, in text whose encoding knows none: the set was declared wrongly. */
function hasDesignation(value: string): boolean {
  return value.includes('\x1b') && [...BY_ESCAPE.keys()].some((sequence) => value.includes(`\x1b${sequence}`));
}

/**
 * What stands after ESC: intermediate bytes from 20 to 2F, then one final byte from 30 to 7E (ISO/IEC 2022). Empty where
 * that is not so, and where the final byte is a delimiter, so that a stray ESC takes nothing else with it.
 */
function escapeAt(bytes: Buffer, start: number, isName: boolean): string {
  let end = start;
  while (end < bytes.length && end - start < 3 && (bytes[end] ?? 0) >= SPACE && (bytes[end] ?? 0) <= 0x2f) end += 1;
  const final = bytes[end] ?? 0;
  if (final < 0x30 || final > 0x7e || isDelimiter(final, isName)) return '';
  return bytes.toString('latin1', start, end + 1);
}

/** Control characters and delimiters bring the initial designations back (PS3.5 section 6.1.2.5.3). */
function endsDesignation(byte: number, isName: boolean, g0: CodeTable): boolean {
  if (byte < SPACE) return true;
  // In a set of two bytes these may be a half of a character.
  return g0.width === 1 && isDelimiter(byte, isName);
}

function isDelimiter(byte: number, isName: boolean): boolean {
  return byte === 0x5c || (isName && (byte === 0x5e || byte === 0x3d));
}

/** Where the bytes end that are of one side, and before the next escape sequence, control character or delimiter. */
function runEnd(bytes: Buffer, start: number, isName: boolean, g0: CodeTable): number {
  const side = sideOf(bytes[start] ?? 0);
  let end = start + 1;
  while (end < bytes.length) {
    const byte = bytes[end] ?? 0;
    if (byte === ESC || sideOf(byte) !== side || endsDesignation(byte, isName, g0)) break;
    end += 1;
  }
  return end;
}

/** 1 for bytes of G1, 0 for those of G0, -1 for control characters and SPACE, which no designation changes. */
function sideOf(byte: number): -1 | 0 | 1 {
  if (byte <= SPACE) return -1;
  return byte < 0x80 ? 0 : 1;
}

/** The text, or undefined where the bytes are not in the encoding, or nobody knows it here. */
function decoded(label: string, bytes: Buffer): string | undefined {
  // Node.js 22.13 and more of its versions take it for Latin-1: https://github.com/nodejs/node/issues/56542
  if (label === 'windows-1252') return windows1252(bytes);
  try {
    return decodersOf(label)?.strict.decode(bytes);
  } catch {
    return undefined;
  }
}

function windows1252(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[\x80-\x9f]/g, (char) => WINDOWS_1252[char.charCodeAt(0) - 0x80] ?? char);
}

/** Null where this runtime has no such table. */
function decodersOf(label: string): Decoders | null {
  let decoders = decodersByLabel.get(label);
  if (decoders === undefined) {
    try {
      decoders = {
        strict: new TextDecoder(label, { fatal: true, ignoreBOM: true }),
        lenient: new TextDecoder(label, { ignoreBOM: true }),
      };
    } catch {
      decoders = null;
    }
    decodersByLabel.set(label, decoders);
  }
  return decoders;
}
