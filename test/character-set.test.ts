import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TextDecoding } from '../src/dicom/character-set.ts';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { hasRealFiles, readReal } from './support/real-files.ts';

function decode(characterSet: string | undefined, value: string, isName = true) {
  const decoding = new TextDecoding(characterSet);
  const text = decoding.decode(value, isName);
  return { text, oddities: [...decoding.oddities] };
}

/** Text in UTF-8 as it is cut from a data set: one character for each byte. */
const utf8 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

const YAMADA = '山田^太郎=やまだ^たろう';

describe('the examples of the standard', () => {
  test.each([
    [
      'PS3.5 H.3.1',
      '\\ISO 2022 IR 87',
      'Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B',
      `Yamada^Tarou=${YAMADA}`,
    ],
    [
      'PS3.5 H.3.2',
      'ISO 2022 IR 13\\ISO 2022 IR 87',
      '\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J',
      `ﾔﾏﾀﾞ^ﾀﾛｳ=${YAMADA}`,
    ],
    [
      'PS3.5 I.2',
      '\\ISO 2022 IR 149',
      'Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf',
      'Hong^Gildong=洪^吉洞=홍^길동',
    ],
    ['PS3.5 J.1', 'ISO_IR 192', utf8('Wang^XiaoDong=王^小東='), 'Wang^XiaoDong=王^小東='],
    ['PS3.5 J.2', 'GB18030', 'Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=', 'Wang^XiaoDong=王^小东='],
    ['PS3.5 J.2, in GBK', 'GBK', 'Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=', 'Wang^XiaoDong=王^小东='],
    [
      'PS3.5 K.2',
      '\\ISO 2022 IR 58',
      'Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=',
      'Zhang^XiaoDong=张^小东=',
    ],
  ])('%s', (_, characterSet, value, text) => {
    expect(decode(characterSet, value)).toEqual({ text, oddities: [] });
  });
});

describe('sets of single bytes (PS3.3 table C.12-2)', () => {
  const sets = [
    ['100', 'Stra\xdfe', 'Straße'],
    ['101', '\xb1', 'ą'],
    ['109', '\xa1', 'Ħ'],
    ['110', '\xa1', 'Ą'],
    ['144', '\xbb\xee\xda\xe1\xd5\xdc\xd1\xe3\xe0\xd3', 'Люксембург'],
    ['127', '\xc7', 'ا'],
    ['126', '\xc4', 'Δ'],
    ['138', '\xf9', 'ש'],
    ['148', '\xfd', 'ı'],
    ['203', '\xa4', '€'],
    ['166', '\xa1', 'ก'],
    ['13', '\xd4', 'ﾔ'],
  ] as const;
  test.each(sets)('ISO_IR %s', (set, value, text) => {
    expect(decode(`ISO_IR ${set}`, value)).toEqual({ text, oddities: [] });
    expect(decode(`ISO 2022 IR ${set}`, value)).toEqual({ text, oddities: [] });
  });

  test('Windows-1252 where the standard has control characters: what was meant is shown', () => {
    const meant = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ';
    const bytes = Buffer.from(Array.from(meant, (_, at) => 0x80 + at)).toString('latin1');
    for (const characterSet of ['ISO_IR 100', 'ISO 2022 IR 100\\ISO 2022 IR 144']) {
      expect(decode(characterSet, bytes)).toEqual({ text: meant, oddities: [] });
    }
    expect(decode(undefined, 'O\x92Brien').text).toBe('O’Brien');
  });
});

describe('code extensions', () => {
  test('a byte 5C in a character of two bytes is no delimiter', () => {
    // 0x25 0x5c is a katakana of JIS X 0208.
    expect(decode('\\ISO 2022 IR 87', '\x1b$B%\\\x1b(B\\B', false).text).toBe('ボ\\B');
    expect(decode('GB18030', '\x81\\A', false).text).toBe('乗A');
  });

  test('the designation ends with the value, the component and the line (PS3.5 section 6.1.2.5.3)', () => {
    const korean = '\x1b$)C\xb1\xe6';
    expect(decode('\\ISO 2022 IR 149', `${korean}\\A${korean}`, false).text).toBe('길\\A길');
    // Without an escape sequence of its own what follows is in no set that is declared.
    for (const delimiter of ['\\', '^', '=', '\r\n']) {
      expect(decode('\\ISO 2022 IR 149', `${korean}${delimiter}\xb1`).oddities).toEqual(['charset-undeclared']);
    }
    expect(decode('\\ISO 2022 IR 149', `${korean}^\xb1\xe6`, false)).toEqual({ text: '길^길', oddities: [] });
  });

  test('several sets in one value, JIS X 0212 among them', () => {
    const value = 'A\x1b$(D0!\x1b(B\x1b$B;3\x1b(B\x1b)I\xd4';
    const sets = 'ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159\\ISO 2022 IR 13';
    expect(decode(sets, value)).toEqual({ text: 'A丂山ﾔ', oddities: [] });
  });

  test('Latin with another alphabet', () => {
    expect(decode('ISO 2022 IR 100\\ISO 2022 IR 144', 'M\xfcller \x1b-L\xb8\xd2\xd0\xdd')).toEqual({
      text: 'Müller Иван',
      oddities: [],
    });
  });

  test('SPACE is SPACE in a set of two bytes too, and control characters end it', () => {
    expect(decode('\\ISO 2022 IR 87', '\x1b$B;3 ED\x1b(B')).toEqual({ text: '山 田', oddities: [] });
    expect(decode('\\ISO 2022 IR 87', '\x1b$B;3\x0b;3', false)).toEqual({ text: '山\x0b;3', oddities: [] });
  });

  test('an escape sequence that is not declared is read, and flagged', () => {
    expect(decode(undefined, '\x1b$B;3\x1b(B')).toEqual({ text: '山', oddities: ['charset-undeclared'] });
    for (const characterSet of ['ISO_IR 100', 'ISO_IR 192', 'GB18030']) {
      expect(decode(characterSet, '\x1b$B;3\x1b(B')).toEqual({ text: '山', oddities: ['charset-undeclared'] });
    }
    expect(decode('ISO_IR 192', `${utf8('ü')}\x1b$B;3\x1b(B`).text).toBe('ü山');
  });

  test('one that nobody knows is flagged, and the rest is read', () => {
    expect(decode('\\ISO 2022 IR 87', 'A\x1b*XB')).toEqual({ text: 'A\ufffdB', oddities: ['charset-malformed'] });
    expect(decode('\\ISO 2022 IR 87', 'A\x1b').text).toBe('A\ufffd');
  });

  test.each(['\\B', '^B', '=B', '$\\B', '\xfcB'])('a stray ESC takes nothing of %j with it', (rest) => {
    const text = `A\ufffd${rest}`;
    expect(decode('ISO_IR 100', `A\x1b${rest}`)).toEqual({ text, oddities: ['charset-malformed'] });
  });
});

describe('what is declared wrongly', () => {
  test.each([
    'ISO IR 100',
    'ISO-IR 100',
    'ISO_IR_100',
    'iso_ir 100',
    ' ISO_IR 100',
    'ISO_IR100',
    'ISO 2022 IR 100',
    'ISO2022IR100',
  ])('%j is taken for what it means', (characterSet) => {
    expect(decode(characterSet, 'M\xfcller')).toEqual({ text: 'Müller', oddities: [] });
  });

  test.each(['UTF8', 'UTF-8', 'utf_8', 'ISO IR 192', '\\ISO_IR 192', 'ISO 2022 IR 192'])(
    '%j is UTF-8',
    (characterSet) => {
      expect(decode(characterSet, utf8('Müller'))).toEqual({ text: 'Müller', oddities: [] });
    },
  );

  test.each(['GB2312', 'ISO 2022 GBK', 'ISO 2022 GB2312', 'ISO 2022 58', 'ISO_IR 58'])(
    '%j is Chinese',
    (characterSet) => {
      expect(decode(characterSet, '\xcd\xf5')).toEqual({ text: '王', oddities: [] });
    },
  );

  test('a whole encoding beside another set: whichever the bytes are in, flagged', () => {
    for (const characterSet of ['ISO_IR 101\\ISO_IR 192', 'ISO_IR 192\\ISO_IR 101']) {
      for (const value of [utf8('Łąka'), '\xa3\xb1ka']) {
        expect(decode(characterSet, value)).toEqual({ text: 'Łąka', oddities: ['charset-undeclared'] });
      }
    }
  });

  test.each([undefined, '', 'ISO_IR 6', 'ISO 2022 IR 6'])(
    '%j: what is UTF-8 is read so, else as Latin',
    (characterSet) => {
      for (const value of [utf8('Müller'), 'M\xfcller']) {
        expect(decode(characterSet, value)).toEqual({ text: 'Müller', oddities: ['charset-undeclared'] });
      }
    },
  );

  test('a set that nobody knows is flagged only where it matters', () => {
    expect(decode('KLINGON', 'M\xfcller')).toEqual({ text: 'Müller', oddities: ['charset-unknown'] });
    expect(decode('KLINGON', 'Miller')).toEqual({ text: 'Miller', oddities: [] });
  });

  test('bytes that the set does not have', () => {
    expect(decode('ISO_IR 192', 'M\xfcller')).toEqual({ text: 'Müller', oddities: ['charset-malformed'] });
    expect(decode('ISO_IR 166', 'A\xff\xa1')).toEqual({ text: 'A\ufffdก', oddities: ['charset-malformed'] });
    // In Shift JIS, whose half JIS X 0201 is, these two bytes are one kanji.
    expect(decode('ISO_IR 13', '\x88\xc0')).toEqual({ text: '\ufffdﾀ', oddities: ['charset-malformed'] });
    expect(decode('ISO_IR 127', '\xa1\xc7')).toEqual({ text: '\ufffdا', oddities: ['charset-malformed'] });
    expect(decode('\\ISO 2022 IR 87', '\x1b$B;\x1b(B').oddities).toEqual(['charset-malformed']);
  });
});

describe('always', () => {
  const sets = fc.oneof(
    fc.constantFrom(
      'ISO_IR 100',
      'ISO_IR 13',
      'ISO_IR 192',
      'GB18030',
      '\\ISO 2022 IR 87',
      '\\ISO 2022 IR 149\\ISO 2022 IR 58',
    ),
    fc.string({ maxLength: 40 }),
  );
  const bytes = fc.string({
    unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
    maxLength: 60,
  });
  const escaped = fc
    .array(fc.oneof(bytes, fc.constantFrom('\x1b$B', '\x1b(B', '\x1b$)C', '\x1b$(D', '\x1b)I', '\x1b-', '\x1b')))
    .map((parts) => parts.join(''));

  test('some text comes of any bytes', () => {
    fc.assert(
      fc.property(sets, escaped, fc.boolean(), (characterSet, value, isName) => {
        expect(typeof decode(characterSet, value, isName).text).toBe('string');
      }),
      { numRuns: 3_000 },
    );
  });

  test('ASCII stays as it is in every set', () => {
    const ascii = fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) });
    const numbers = '6 13 58 87 100 101 109 110 126 127 138 144 148 149 159 166 192 203'.split(' ');
    const every = fc.constantFrom(
      ...numbers.flatMap((number) => [`ISO_IR ${number}`, `ISO 2022 IR ${number}`, `\\ISO 2022 IR ${number}`]),
      ...['GB18030', 'GBK'],
    );
    fc.assert(
      fc.property(fc.oneof(every, sets), ascii, (characterSet, value) => {
        const decoding = new TextDecoding(characterSet);
        // What is beyond ASCII takes the value past the shortcut that ASCII alone takes.
        expect(decoding.decode(`${value}\xb1\xb1`, true).startsWith(value)).toBe(true);
        expect(decode(characterSet, value)).toEqual({ text: value, oddities: [] });
      }),
      { numRuns: 1_000 },
    );
  });

  test('Latin-1 comes back as it was', () => {
    const latin = fc.oneof(fc.integer({ min: 0x20, max: 0x7e }), fc.integer({ min: 0xa0, max: 0xff }));
    fc.assert(
      fc.property(fc.string({ unit: latin.map((code) => String.fromCharCode(code)) }), fc.boolean(), (text, isName) => {
        expect(decode('ISO_IR 100', text, isName)).toEqual({ text, oddities: [] });
      }),
      { numRuns: 1_000 },
    );
  });

  test('UTF-8 comes back as it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(decode('ISO_IR 192', utf8(text))).toEqual({ text, oddities: [] });
      }),
      { numRuns: 1_000 },
    );
  });
});

// Skipped where the folder of real files is not there: they are not the project's to ship.
describe.skipIf(!hasRealFiles)('real files (skipped where ../shared/dicom is not there)', () => {
  test.each([
    ['pydicom/chrH31.dcm', `Yamada^Tarou=${YAMADA}`],
    ['pydicom/chrKoreanMulti.dcm', '김희중'],
    ['pydicom/chrJapMultiExplicitIR6.dcm', 'やまだ^たろう'],
    ['pydicom/chrX1.dcm', 'Wang^XiaoDong=王^小東='],
    ['fo-dicom/chrGB2312.dcm', 'Zhang^XiaoDong=张^小东='],
    ['fo-dicom/GH1301.dcm', 'Wang^XiaoDong=王^小东='],
  ])('%s', async (file, name) => {
    const { header } = await readAndDigest([readReal(file)]);
    expect(header.attributes.PatientName).toBe(name);
    expect(header.oddities.filter((oddity) => oddity.startsWith('charset'))).toEqual([]);
  });
});
