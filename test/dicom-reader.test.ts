import { createHash } from 'node:crypto';
import { constants, deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { DicomReader } from '../src/dicom/reader.ts';
import { TRANSFER_SYNTAXES, type TransferSyntaxName } from '../src/testing/part10-writer.ts';
import { type SyntheticOptions, syntheticIdentity, syntheticInstance } from '../src/testing/synthetic.ts';
import { chunksOf, read, splitAt } from './support/dicom-reading.ts';
import {
  delimiter,
  element,
  ITEM,
  ITEM_END,
  identityElements,
  implicitElement,
  open,
  part10,
  prefix,
  SEQUENCE_END,
  sequence,
  tag,
  UNDEFINED_LENGTH,
  u32,
} from './support/element-bytes.ts';

const SYNTAXES = Object.keys(TRANSFER_SYNTAXES) as TransferSyntaxName[];
const SMALL: SyntheticOptions = { rows: 9, columns: 7, nestedSequence: true };
const META_START = 132;

describe('a whole file', () => {
  test.each(SYNTAXES)('%s: identity, attributes, digest', async (transferSyntax) => {
    const options = { ...SMALL, transferSyntax, acquisitionDate: '20240201', timezoneOffset: '+0100' };
    const bytes = syntheticInstance(options);
    const { header, digest, bytes: length } = await read([bytes]);

    expect(header.identity).toEqual(syntheticIdentity(options));
    expect(header.attributes).toMatchObject({
      StudyDate: '20240131',
      StudyTime: '120000',
      AcquisitionDate: '20240201',
      TimezoneOffsetFromUTC: '+0100',
      Modality: 'CT',
    });
    expect(header.oddities).toEqual([]);
    expect(digest).toBe(sha256(bytes.subarray(dataSetOffset(bytes))));
    expect(length).toBe(bytes.length);
  });

  test('empty and padded values: absent, and without padding', async () => {
    const { header } = await read([
      syntheticInstance({ ...SMALL, studyDate: '', studyTime: ' 1010 ', studyInstanceUid: '1.2.3' }),
    ]);
    expect(header.attributes).not.toHaveProperty('StudyDate');
    expect(header.attributes.StudyTime).toBe('1010');
    expect(header.identity.studyInstanceUid).toBe('1.2.3');
  });

  test.each(SYNTAXES)('%s: any chunking gives the same', async (transferSyntax) => {
    const bytes = syntheticInstance({ ...SMALL, transferSyntax });
    const whole = await read([bytes]);
    expect(await read(chunksOf(bytes, 1))).toEqual(whole);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 20 }), async (points) => {
        expect(await read(splitAt(bytes, points))).toEqual(whole);
      }),
      { numRuns: 100 },
    );
  });

  test('a chunk that is used again after it was taken changes nothing', async () => {
    for (const transferSyntax of SYNTAXES) {
      const bytes = syntheticInstance({ ...SMALL, transferSyntax });
      const reused = new Uint8Array(13);
      async function* chunks() {
        for (const chunk of chunksOf(bytes, reused.length)) {
          reused.fill(0xff);
          reused.set(chunk);
          yield reused.subarray(0, chunk.length);
        }
      }
      expect(await readAndDigest(chunks())).toEqual(await read([bytes]));
    }
  });
});

describe('digest', () => {
  test.each(SYNTAXES)('%s: preamble and file meta do not count, the data set does', async (transferSyntax) => {
    const bytes = syntheticInstance({ ...SMALL, transferSyntax });
    const { digest } = await read([bytes]);
    const otherHead = Buffer.from(bytes);
    otherHead.fill(0x41, 0, 128);
    otherHead.write('OTHER_IMPLEME', otherHead.indexOf('SPILLWAY_TEST'), 'latin1');
    const withoutVersionName = syntheticInstance({ ...SMALL, transferSyntax, omit: ['00020012', '00020013'] });
    const otherPixels = syntheticInstance({ ...SMALL, transferSyntax, seed: 1, instanceNumber: 2 });

    expect((await read([otherHead])).digest).toBe(digest);
    expect((await read([withoutVersionName])).digest).toBe(digest);
    expect((await read([otherPixels])).digest).not.toBe(digest);
  });

  test('the last byte of the pixel data counts', async () => {
    const bytes = syntheticInstance(SMALL);
    const other = Uint8Array.from(bytes);
    other[other.length - 1] = (other.at(-1) ?? 0) ^ 1;
    expect((await read([other])).digest).not.toBe((await read([bytes])).digest);
  });

  test('a deflated data set is digested as it came, not as it inflates', async () => {
    const dataSet = Buffer.concat(identityElements());
    const fast = part10(TRANSFER_SYNTAXES.deflated, deflateRawSync(dataSet, { level: 0 }));
    const small = part10(TRANSFER_SYNTAXES.deflated, deflateRawSync(dataSet, { level: 9 }));
    const [a, b] = [await read([fast]), await read([small])];
    expect(a.header).toEqual(b.header);
    expect(a.digest).not.toBe(b.digest);
    expect(a.digest).toBe(sha256(deflateRawSync(dataSet, { level: 0 })));
  });
});

describe('a data set that is short in itself is accepted as truncated', () => {
  test.each(SYNTAXES)('%s: cut in its pixel data', async (transferSyntax) => {
    const bytes = syntheticInstance({ rows: 64, columns: 64, transferSyntax });
    // Deflate is allowed to end only at its end: 100 bytes before it there is still pixel data.
    const { header } = await read([bytes.subarray(0, bytes.length - 100)]);
    expect(header.identity).toEqual(syntheticIdentity({ transferSyntax }));
    expect(header.oddities).toEqual(['truncated']);
  });

  test('encapsulated pixel data without its delimiter', async () => {
    const bytes = syntheticInstance({ ...SMALL, transferSyntax: 'rle' });
    expect((await read([bytes.subarray(0, bytes.length - 8)])).header.oddities).toEqual(['truncated']);
  });

  test('a sequence without its delimiter', async () => {
    const bytes = part10(TRANSFER_SYNTAXES['explicit-little'], ...identityElements(), open(0x00400275));
    expect((await read([bytes])).header.oddities).toEqual(['truncated']);
  });

  test('half an element header', async () => {
    const bytes = Buffer.concat([syntheticInstance(SMALL), Buffer.from([0xfc, 0xff, 0xfc])]);
    expect((await read([bytes])).header.oddities).toEqual(['truncated']);
  });

  test('bytes that are no data set after it are told apart', async () => {
    const bytes = Buffer.concat([syntheticInstance(SMALL), Buffer.alloc(64)]);
    expect((await read([bytes])).header.oddities).toEqual(['unreadable-tail']);
    const noise = Buffer.from(syntheticInstance({ rows: 64, columns: 64 })).subarray(-8192);
    const dataSet = Buffer.concat([...identityElements(), element(0x7fe00010, 'OB', noise)]);
    const deflated = deflateRawSync(dataSet, { finishFlush: constants.Z_FULL_FLUSH });
    const broken = Buffer.concat([deflated, Buffer.alloc(20, 0xff)]);
    const { header } = await read([part10(TRANSFER_SYNTAXES.deflated, broken)]);
    expect(header.oddities).toEqual(['unreadable-tail']);
  });

  test('cut before its identity it is refused, and the reason says so', async () => {
    const bytes = syntheticInstance(SMALL);
    const cut = bytes.subarray(0, Buffer.from(bytes).indexOf('Synthetic study'));
    await expect(read([cut])).rejects.toMatchObject({ code: 'SPILLWAY_IDENTITY_MISSING' });
    await expect(read([cut])).rejects.toThrow(/StudyInstanceUID.*ends inside an element/);
  });
});

describe('UIDs', () => {
  const unsafe = [
    '../../x',
    'a/b',
    'a\\b',
    '/',
    '.',
    '..',
    '....',
    '1.2\n3',
    '\t1.2',
    '1.2\0.3',
    '1.2\x7f',
    '1.2\x1b[2J',
  ];
  test.each(unsafe.map((uid) => [JSON.stringify(uid), uid] as const))('%s is refused everywhere', async (_, uid) => {
    for (const place of [{ studyInstanceUid: uid }, { seriesInstanceUid: uid }, { sopInstanceUid: uid }]) {
      await expect(read([syntheticInstance({ ...SMALL, ...place })])).rejects.toMatchObject({
        code: 'SPILLWAY_UID_UNSAFE',
        isRetryable: false,
      });
    }
    // As a transfer syntax it is as good as none.
    const { header } = await read([part10(uid, ...identityElements())]);
    expect(header.oddities).toEqual(['transfer-syntax-missing']);
    expect(header.identity.transferSyntaxUid).toBe(TRANSFER_SYNTAXES['explicit-little']);
  });

  const odd = ['01.02', '1..2', '1.2.', 'ABC-123', 'CON', '1.2 .3', '-1', `1.${'9'.repeat(70)}`, '1.2.3:x', 'é'];
  test.each(odd)('%s is kept as it came, and flagged once', async (uid) => {
    const options = { ...SMALL, studyInstanceUid: uid, sopInstanceUid: uid };
    const { header } = await read([syntheticInstance(options)]);
    expect(header.identity.studyInstanceUid).toBe(Buffer.from(uid, 'utf8').toString('latin1'));
    expect(header.oddities).toEqual(['uid-nonstandard']);
  });

  test.each([
    ['0020000D', [], 'StudyInstanceUID'],
    ['0020000E', [], 'SeriesInstanceUID'],
    ['00080018', ['00020003'], 'SOPInstanceUID'],
    ['00080016', ['00020002'], 'SOPClassUID'],
  ])('without %s it is refused by its name', async (tag, inMeta, keyword) => {
    for (const transferSyntax of SYNTAXES) {
      const bytes = syntheticInstance({ ...SMALL, transferSyntax, omit: [tag, ...inMeta] });
      await expect(read([bytes])).rejects.toMatchObject({ code: 'SPILLWAY_IDENTITY_MISSING' });
      await expect(read([bytes])).rejects.toThrow(keyword);
    }
  });

  test.each(['00080018', '00080016'])('without %s file meta tells, and that is flagged', async (tag) => {
    for (const transferSyntax of SYNTAXES) {
      const options = { ...SMALL, transferSyntax };
      const { header } = await read([syntheticInstance({ ...options, omit: [tag] })]);
      expect(header.identity).toEqual(syntheticIdentity(options));
      expect(header.oddities).toEqual(['identity-from-file-meta']);
    }
  });

  test('an empty one, and one that stands only inside a sequence, is missing', async () => {
    await expect(read([syntheticInstance({ ...SMALL, sopInstanceUid: '' })])).rejects.toMatchObject({
      code: 'SPILLWAY_IDENTITY_MISSING',
    });
    const inner = element(0x0020000d, 'UI', '1.2.9');
    const others = identityElements().filter((_, index) => index !== 2);
    await expect(
      read([part10(TRANSFER_SYNTAXES['explicit-little'], sequence(open(0x00081115), inner), ...others)]),
    ).rejects.toThrow(/StudyInstanceUID/);
  });
});

describe('who it is, without anything else', () => {
  const instances = [
    ...(Object.keys(TRANSFER_SYNTAXES) as TransferSyntaxName[]).map((name) =>
      syntheticInstance({ transferSyntax: name }),
    ),
    syntheticInstance({ ...SMALL, studyInstanceUid: 'ABC-123', sopInstanceUid: 'é' }),
    // Named by its file meta alone.
    syntheticInstance({ ...SMALL, omit: ['00080018', '00080016'] }),
  ];
  test.each(instances.map((bytes, index) => [index, bytes] as const))('is what `end` says: %i', async (_, bytes) => {
    const [whole, named] = [new DicomReader(), new DicomReader()];
    for (const chunk of chunksOf(bytes, 1_000)) {
      await whole.push(chunk);
      await named.push(chunk);
    }
    expect(await named.endIdentity()).toEqual((await whole.end()).identity);
  });
});

describe('not DICOM', () => {
  const html = `<!doctype html><html>${'<p>503 Service Unavailable</p>'.repeat(20)}</html>`;
  test.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('hello')],
    ['HTML', Buffer.from(html)],
    ['131 bytes', Buffer.alloc(131)],
    ['131 bytes of a DICOM file', Buffer.from(syntheticInstance(SMALL).subarray(0, 131))],
    ['132 bytes without the prefix', Buffer.alloc(132)],
    ['a data set behind a stray byte', Buffer.concat([Buffer.from(' '), ...identityElements()])],
    ['UTF-16', Buffer.from(html, 'utf16le')],
    ['PNG', Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex')],
    ['ZIP', Buffer.from('504b03041400000008000000', 'hex')],
    ['file meta without end', Buffer.concat([prefix(), Buffer.alloc(2_000_000, element(0x00020013, 'SH', 'xx'))])],
    [
      'file meta of megabytes',
      Buffer.concat([prefix(), ...Array.from({ length: 40 }, () => element(0x00020102, 'OB', Buffer.alloc(50_000)))]),
    ],
    [
      'an element of 4 GiB in file meta',
      Buffer.concat([prefix(), tag(0x00020102), Buffer.from('OB\0\0'), u32(0xfffffffe)]),
    ],
  ])('%s is refused', async (_, bytes) => {
    await expect(read(chunksOf(bytes, 50_000))).rejects.toMatchObject({
      code: 'SPILLWAY_NOT_DICOM',
      isRetryable: false,
    });
  });

  test('it is refused before the rest is read', async () => {
    let pulled = 0;
    async function* endless() {
      for (;;) {
        pulled += 1;
        if (pulled > 100) throw new Error('read on');
        yield Buffer.from(html);
      }
    }
    await expect(readAndDigest(endless())).rejects.toMatchObject({ code: 'SPILLWAY_NOT_DICOM' });
  });

  test('nothing after the prefix, or only file meta, has no identity', async () => {
    await expect(read([prefix()])).rejects.toMatchObject({ code: 'SPILLWAY_IDENTITY_MISSING' });
    for (const syntax of Object.values(TRANSFER_SYNTAXES)) {
      await expect(read([part10(syntax)])).rejects.toMatchObject({ code: 'SPILLWAY_IDENTITY_MISSING' });
    }
  });
});

describe('file meta that is wrong', () => {
  test('private information of some size is read over, in any chunking', async () => {
    const meta = element(0x00020102, 'OB', Buffer.alloc(200_000, 1));
    const bytes = Buffer.concat([
      prefix(),
      meta,
      part10(TRANSFER_SYNTAXES['explicit-little'], ...identityElements()).subarray(META_START),
    ]);
    for (const size of [100, 1 << 20]) {
      expect((await read(chunksOf(bytes, size))).header.oddities).toEqual([]);
    }
  });

  test.each([0, 7, 100_000, UNDEFINED_LENGTH])('(0002,0000) of %i does not matter', async (groupLength) => {
    const bytes = Buffer.from(syntheticInstance(SMALL));
    const expected = await read([bytes]);
    bytes.writeUInt32LE(groupLength, META_START + 8);
    expect(await read([bytes])).toEqual(expected);
  });

  test.each(['explicit-little', 'implicit-little'] as const)('%s without a transfer syntax', async (transferSyntax) => {
    const options = { ...SMALL, transferSyntax, omit: ['00020010'] };
    const bytes = syntheticInstance(options);
    const whole = await read([bytes]);
    expect(whole.header.identity).toEqual(syntheticIdentity(options));
    expect(whole.header.oddities).toEqual(['transfer-syntax-missing']);
    expect(await read(chunksOf(bytes, 1))).toEqual(whole);
  });
});

describe('nesting', () => {
  const DEPTH = 5_000;
  const nested = (head: Buffer) => [
    ...Array.from({ length: DEPTH }, () => [head, delimiter(ITEM)]).flat(),
    ...Array.from({ length: DEPTH }, () => [delimiter(ITEM_END, 0), delimiter(SEQUENCE_END, 0)]).flat(),
  ];

  test.each([1, 4_093, 1 << 20])('5,000 sequences deep, identity after them, chunks of %i bytes', async (size) => {
    const inExplicit = [...nested(open(0x00080006)), ...identityElements()];
    const inImplicit = [...nested(delimiter(0x00080006)), ...identityElements(implicitElement)];
    for (const [syntax, dataSet] of [
      [TRANSFER_SYNTAXES['explicit-little'], inExplicit],
      [TRANSFER_SYNTAXES['implicit-little'], inImplicit],
    ] as const) {
      const { header } = await read(chunksOf(part10(syntax, ...dataSet), size));
      expect(header.identity).toMatchObject({ sopInstanceUid: '1.2.18', studyInstanceUid: '1.2.13' });
      expect(header.oddities).toEqual([]);
    }
  });

  test('a million openings are bounded: what follows counts as unreadable', async () => {
    const opening = Buffer.concat([open(0x00400275), delimiter(ITEM)]);
    const bytes = part10(
      TRANSFER_SYNTAXES['explicit-little'],
      ...identityElements(),
      Buffer.alloc(1_000_000 * opening.length, opening),
    );
    expect((await read(chunksOf(bytes, 65_536))).header.oddities).toEqual(['unreadable-tail']);
  });

  test('UN of undefined length holds implicit VR, and explicit VR goes on after it (PS3.5 section 6.2.2)', async () => {
    const inside = [implicitElement(0x00080102, '99XY'), sequence(delimiter(0x00081115))];
    const unknown = sequence(open(0x00080006, 'UN'), ...inside);
    const bytes = part10(TRANSFER_SYNTAXES['explicit-little'], unknown, ...identityElements());
    const { header } = await read(chunksOf(bytes, 3));
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
    expect(header.oddities).toEqual([]);
  });

  test('encapsulated pixel data inside a sequence is passed over', async () => {
    const fragments = [
      open(0x7fe00010, 'OB'),
      delimiter(ITEM, 0),
      delimiter(ITEM, 6),
      Buffer.from('feff00e0ffff', 'hex'),
      delimiter(SEQUENCE_END, 0),
    ];
    const icon = sequence(open(0x00080006), ...fragments);
    const { header } = await read([part10(TRANSFER_SYNTAXES.rle, icon, ...identityElements())]);
    expect(header.identity.seriesInstanceUid).toBe('1.2.14');
    expect(header.oddities).toEqual([]);
  });
});

describe('a deflate bomb', () => {
  // Ends with an invalid block, which only a reader that inflates all of it would meet.
  const zeros = deflateRawSync(Buffer.alloc(16 * 1024 * 1024), { finishFlush: constants.Z_FULL_FLUSH });
  const gibibyte = Buffer.concat([...Array.from({ length: 64 }, () => zeros), Buffer.alloc(16, 0xff)]);

  test('after the header: inflating ends early, in bounded memory', async () => {
    const head = Buffer.concat([...identityElements(), tag(0x7fe00010), Buffer.from('OB\0\0'), u32(0x7ffffffe)]);
    const start = deflateRawSync(head, { finishFlush: constants.Z_FULL_FLUSH });
    const before = process.resourceUsage().maxRSS;
    const { header } = await read([part10(TRANSFER_SYNTAXES.deflated, Buffer.concat([start, gibibyte]))]);
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
    expect(header.oddities).toEqual([]);
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(256 * 1024);
  });

  test('in place of a header: it has no identity', async () => {
    await expect(read([part10(TRANSFER_SYNTAXES.deflated, gibibyte)])).rejects.toMatchObject({
      code: 'SPILLWAY_IDENTITY_MISSING',
    });
  });
});

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** By (0002,0000), which the generator writes correctly. */
function dataSetOffset(bytes: Uint8Array): number {
  return META_START + 12 + Buffer.from(bytes).readUInt32LE(META_START + 8);
}
