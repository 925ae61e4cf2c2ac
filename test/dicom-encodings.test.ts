import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { TRANSFER_SYNTAXES, type TransferSyntaxName } from '../src/testing/part10-writer.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { chunksOf, read } from './support/dicom-reading.ts';
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
  u32,
} from './support/element-bytes.ts';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const EXPLICIT = TRANSFER_SYNTAXES['explicit-little'];
const IMPLICIT = TRANSFER_SYNTAXES['implicit-little'];
const META_START = 132;
type Paths = [whole: string, bare: string, kept: string];
const BARE = ['explicit-little', 'implicit-little', 'explicit-big'] as const;

/** A file as it was written from an instance, and what was read on the way. */
async function stored(chunks: Iterable<Uint8Array>, transferSyntaxUid?: string) {
  const pieces: Uint8Array[] = [];
  const onFile = async (piece: Uint8Array) => {
    pieces.push(Uint8Array.from(piece));
  };
  const instance = await readAndDigest(chunks, { transferSyntaxUid, onFile });
  return { ...instance, file: Buffer.concat(pieces) };
}

function withoutMeta(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(META_START + 12 + Buffer.from(bytes).readUInt32LE(META_START + 8));
}

function instanceIn(transferSyntax: TransferSyntaxName): Uint8Array {
  return syntheticInstance({ rows: 9, columns: 7, transferSyntax, nestedSequence: true });
}

describe('what comes without preamble or file meta', () => {
  test.each(BARE)('%s: a bare data set is kept as a file that says what it is', async (transferSyntax) => {
    const whole = instanceIn(transferSyntax);
    const expected = await read([whole]);
    for (const size of [1, 100, 1 << 20]) {
      const found = await stored(chunksOf(withoutMeta(whole), size));
      expect(found.header).toEqual({
        ...expected.header,
        oddities: ['file-meta-missing', 'transfer-syntax-missing'],
      });
      expect(found.digest).toBe(expected.digest);
      expect(found.bytes).toBe(found.file.length);
      // Read again it is a DICOM file like any other, and the data set is untouched.
      const again = await read([found.file]);
      expect(again).toEqual({ ...expected, bytes: found.bytes });
      expect(found.file.subarray(found.file.length - withoutMeta(whole).length)).toEqual(
        Buffer.from(withoutMeta(whole)),
      );
    }
  });

  test.each(['rle', 'deflated'] as const)('%s: as from a C-STORE, with its transfer syntax', async (transferSyntax) => {
    const whole = instanceIn(transferSyntax);
    const expected = await read([whole]);
    const found = await stored(chunksOf(withoutMeta(whole), 50), TRANSFER_SYNTAXES[transferSyntax]);
    expect(found.header).toEqual({ ...expected.header, oddities: ['file-meta-missing'] });
    expect(found.digest).toBe(expected.digest);
    expect(await read([found.file])).toEqual({ ...expected, bytes: found.bytes });
  });

  test('file meta counts before the transfer syntax that the caller names', async () => {
    const whole = instanceIn('explicit-big');
    expect(await read([whole], IMPLICIT)).toEqual(await read([whole]));
  });

  test('chunks that are used again change nothing of what is held', async () => {
    const data = Buffer.concat([element(0x00080008, 'CS', 'ORIGINAL'.repeat(100)), ...identityElements()]);
    const reused = new Uint8Array(50);
    async function* chunks() {
      for (const chunk of chunksOf(data, reused.length)) {
        reused.fill(0xff);
        reused.set(chunk);
        yield reused.subarray(0, chunk.length);
      }
    }
    const pieces: Uint8Array[] = [];
    const onFile = async (piece: Uint8Array) => {
      pieces.push(Uint8Array.from(piece));
    };
    await readAndDigest(chunks(), { onFile });
    expect(Buffer.concat(pieces).subarray(-data.length)).toEqual(data);
  });

  test('compressed pixel data of which nobody said how', async () => {
    const { header } = await read([withoutMeta(instanceIn('rle'))]);
    expect(header.oddities).toContain('compression-unknown');
  });

  test.each<[string, (whole: Buffer) => Buffer]>([
    ['file meta without preamble and prefix', (whole) => whole.subarray(META_START)],
    ['the prefix without a preamble', (whole) => whole.subarray(128)],
    [
      'file meta behind a preamble without the prefix',
      (whole) => Buffer.concat([whole.subarray(0, 128), whole.subarray(META_START)]),
    ],
    [
      'file meta behind a damaged prefix',
      (whole) => Buffer.concat([whole.subarray(0, 128), Buffer.from('dicm'), whole.subarray(META_START)]),
    ],
    ['a preamble without the prefix', (whole) => Buffer.concat([Buffer.alloc(128), withoutMeta(whole)])],
    ['a prefix without file meta', (whole) => Buffer.concat([prefix(), withoutMeta(whole)])],
  ])('%s', async (_, cut) => {
    const whole = Buffer.from(instanceIn('explicit-little'));
    const expected = await read([whole]);
    for (const size of [1, 1 << 20]) {
      const found = await stored(chunksOf(cut(whole), size));
      expect(found.header.identity).toEqual(expected.header.identity);
      expect(found.header.oddities).toContain('file-meta-missing');
      expect(found.digest).toBe(expected.digest);
      expect(await read([found.file])).toEqual({ ...expected, bytes: found.bytes });
    }
  });

  // Bare data sets as DCMTK writes them, kept, and given back to DCMTK.
  test.for(['explicit-little', 'implicit-little', 'explicit-big', 'deflated'] as const)(
    '%s: what is kept of a data set that DCMTK wrote, DCMTK reads',
    async (transferSyntax, context) => {
      needPeer(context, existsSync('/usr/bin/dcmconv') ? undefined : 'DCMTK is not installed');
      const directory = await temporaryDirectory();
      const [whole, bareFile, kept] = ['whole', 'bare', 'kept'].map((name) => join(directory, name)) as Paths;
      await writeFile(whole, syntheticInstance({ rows: 9, columns: 7, transferSyntax }));
      // -F writes the data set alone, +t= in the syntax that it has.
      execFileSync('dcmconv', ['-F', '+t=', whole, bareFile], { stdio: 'pipe' });
      const found = await stored([await readFile(bareFile)], TRANSFER_SYNTAXES[transferSyntax]);
      expect(found.header.oddities).toEqual(['file-meta-missing']);
      await writeFile(kept, found.file);
      expect(execFileSync('dcmftest', [kept], { encoding: 'utf8' })).toMatch(/^yes:/);
      const dump = (path: string) => execFileSync('dcmdump', ['-q', '-M', '+L', path], { encoding: 'latin1' });
      const dataSet = (text: string) => text.slice(text.indexOf('# Dicom-Data-Set'));
      expect(dataSet(dump(kept))).toBe(dataSet(dump(whole)));
      expect(dump(kept)).toContain(found.header.identity.sopInstanceUid);
    },
  );

  test('a file with file meta is kept byte for byte', async () => {
    const whole = Buffer.from(instanceIn('explicit-little'));
    whole.fill(0x41, 0, 128);
    for (const size of [1, 77, 1 << 20]) expect((await stored(chunksOf(whole, size))).file).toEqual(whole);
  });

  test('a data set that hides its identity behind a megabyte is refused, not held', async () => {
    const filler = element(0x00080008, 'UN', Buffer.alloc(3_000_000));
    await expect(read(chunksOf(Buffer.concat([filler, ...identityElements()]), 65_536))).rejects.toMatchObject({
      code: 'SPILLWAY_IDENTITY_MISSING',
    });
  });
});

describe('file meta that is odd', () => {
  test('it names another instance: the data set counts', async () => {
    const other = part10(EXPLICIT, ...identityElements());
    const meta = element(0x00020003, 'UI', '9.9');
    const bytes = Buffer.concat([other.subarray(0, META_START), meta, other.subarray(META_START)]);
    const { header } = await read([bytes]);
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
    expect(header.oddities).toEqual(['file-meta-differs']);
  });

  test('it alone names the instance, and does not say how it is encoded: nothing is lost', async () => {
    const meta = [element(0x00020002, 'UI', '1.2.16'), element(0x00020003, 'UI', '1.2.18')];
    const dataSet = Buffer.concat([element(0x00080005, 'CS', 'ISO_IR 100'), ...identityElements().slice(2)]);
    const bytes = Buffer.concat([prefix(), ...meta, dataSet]);
    for (const size of [1, 1 << 20]) {
      const found = await stored(chunksOf(bytes, size));
      expect(found.header.identity).toMatchObject({ sopClassUid: '1.2.16', sopInstanceUid: '1.2.18' });
      expect(found.header.oddities).toEqual(['transfer-syntax-missing', 'identity-from-file-meta']);
      expect(found.bytes).toBe(found.file.length);
      expect(found.file.subarray(-dataSet.length)).toEqual(dataSet);
      expect((await read([found.file])).digest).toBe(found.digest);
    }
  });

  test('written in implicit VR', async () => {
    const meta = implicitElement(0x00020010, EXPLICIT);
    const { header } = await read([Buffer.concat([prefix(), meta, ...identityElements()])]);
    expect(header.identity).toMatchObject({ sopInstanceUid: '1.2.18', transferSyntaxUid: EXPLICIT });
    expect(header.oddities).toEqual([]);
  });
});

describe('encoded otherwise than its transfer syntax says', () => {
  const implicit = identityElements(implicitElement);
  test.each([
    ['implicit, called explicit', part10(EXPLICIT, ...implicit)],
    ['explicit, called implicit', part10(IMPLICIT, ...identityElements())],
    ['little endian, called big', part10(TRANSFER_SYNTAXES['explicit-big'], ...identityElements())],
    ['not deflated, called so', part10(TRANSFER_SYNTAXES.deflated, ...identityElements())],
    ['deflated by zlib', part10(TRANSFER_SYNTAXES.deflated, deflateSync(Buffer.concat(identityElements())))],
    ['deflated by gzip', part10(TRANSFER_SYNTAXES.deflated, gzipSync(Buffer.concat(identityElements())))],
  ])('%s: read as it is, and flagged', async (_, bytes) => {
    for (const size of [1, 1 << 20]) {
      const { header } = await read(chunksOf(bytes, size));
      expect(header.identity).toMatchObject({ studyInstanceUid: '1.2.13', sopInstanceUid: '1.2.18' });
      expect(header.oddities).toEqual(['transfer-syntax-mismatch']);
    }
  });

  test('numbers are read as the data set is', async () => {
    const { header } = await read([part10(EXPLICIT, Buffer.from(withoutMeta(instanceIn('explicit-big'))))]);
    expect(header.attributes.Rows).toBe('9');
    expect((await read([instanceIn('deflated')])).header.attributes.Rows).toBe('9');
  });

  test('a stored block of raw deflate is not taken for zlib', async () => {
    // 0x78 begins a stored block whose length makes the two bytes divisible by 31, as in a header of zlib.
    const dataSet = Buffer.concat(identityElements());
    const padded = Buffer.concat([dataSet, element(0x00204000, 'LT', 'x'.repeat(0x019c - dataSet.length - 8))]);
    expect(0x789c % 31).toBe(0);
    const length = padded.length;
    const block = Buffer.concat([Buffer.from([0x78]), u16(length), u16(length ^ 0xffff), padded]);
    const { header } = await read([part10(TRANSFER_SYNTAXES.deflated, block, deflateRawSync(Buffer.alloc(0)))]);
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
    expect(header.oddities).toEqual([]);
  });
});

describe('elements that no data set should hold are stepped over', () => {
  // A first element like any other, since what comes first says how all is encoded.
  const first = element(0x00080005, 'CS', 'ISO_IR 100');
  const rest = identityElements();
  const odd: readonly (readonly [string, readonly Buffer[]])[] = [
    ['an item outside a sequence', [delimiter(ITEM, 8), Buffer.alloc(8, 1)]],
    ['a delimited item outside a sequence', [delimiter(ITEM), element(0x00080102, 'SH', 'x'), delimiter(ITEM_END, 0)]],
    ['delimiters of nothing', [delimiter(ITEM_END, 0), delimiter(SEQUENCE_END, 0)]],
    [
      'an item without its delimiter',
      [open(0x00080006), delimiter(ITEM), delimiter(ITEM), delimiter(ITEM_END, 0), delimiter(SEQUENCE_END, 0)],
    ],
    [
      'the last item without its delimiter',
      [open(0x00080006), delimiter(ITEM), element(0x00080102, 'SH', 'x'), delimiter(SEQUENCE_END, 0)],
    ],
    ['a sequence without its delimiter', [open(0x00080006), delimiter(ITEM), delimiter(ITEM_END, 0)]],
    ['an element without a VR', [tag(0x00080006), u32(6), Buffer.alloc(6)]],
  ];
  test.each(odd)('%s', async (_, bytes) => {
    for (const size of [3, 1 << 20]) {
      const { header } = await read(chunksOf(part10(EXPLICIT, first, ...bytes, ...rest), size));
      expect(header.identity).toMatchObject({ seriesInstanceUid: '1.2.14', sopInstanceUid: '1.2.18' });
      expect(header.oddities).toEqual(['element-malformed']);
    }
  });

  test.each(['??', '\0\0', '  ', '--', 'ox', '-\0', '@@'])('a VR of %j with a length of 16 bits', async (vr) => {
    const rubbish = Buffer.concat([tag(0x00090010), Buffer.from(vr, 'latin1'), u16(4), Buffer.from('abcd')]);
    const [sopClass, sopInstance, ...others] = rest;
    for (const size of [1, 1 << 20]) {
      const bytes = part10(EXPLICIT, ...[sopClass, sopInstance].flatMap((each) => each ?? []), rubbish, ...others);
      const { header } = await read(chunksOf(bytes, size));
      expect(header.identity.seriesInstanceUid).toBe('1.2.14');
      expect(header.oddities).toEqual(['element-malformed']);
    }
  });

  test('the same as the very last element', async () => {
    const rubbish = Buffer.concat([tag(0x00290010), Buffer.from('??'), u16(0)]);
    for (const size of [1, 1 << 20]) {
      const { header } = await read(chunksOf(part10(EXPLICIT, ...rest, rubbish), size));
      expect(header.oddities).toEqual(['element-malformed']);
    }
  });

  test('an item that claims to be longer than its sequence swallows nothing behind it', async () => {
    const item = Buffer.concat([delimiter(ITEM, 4_000), element(0x00401001, 'SH', 'RP1')]);
    const bytes = part10(EXPLICIT, element(0x00400275, 'SQ', item), ...rest);
    const { header } = await read([bytes]);
    expect(header.attributes.RequestedProcedureID).toBe('RP1');
    expect(header.identity.seriesInstanceUid).toBe('1.2.14');
  });

  test('a VR that nobody knows yet has a length of 32 bits (PS3.5 section 6.2)', async () => {
    const future = Buffer.concat([tag(0x00080006), Buffer.from('ZZ\0\0'), u32(4), Buffer.alloc(4)]);
    for (const before of [[first], []]) {
      const { header } = await read([part10(EXPLICIT, ...before, future, ...rest)]);
      expect(header.oddities).toEqual([]);
    }
  });

  test('a delimiter behind an item of known length is no harm', async () => {
    const item = element(0x00401001, 'SH', 'RP1');
    const items = [delimiter(ITEM, item.length), item, delimiter(ITEM_END, 0)];
    const { header } = await read([part10(EXPLICIT, ...rest, open(0x00400275), ...items, delimiter(SEQUENCE_END, 0))]);
    expect(header.attributes.RequestedProcedureID).toBe('RP1');
    expect(header.oddities).toEqual([]);
  });

  test('an item whose length counts a delimiter behind it', async () => {
    const first = [element(0x00080050, 'SH', 'A1'), delimiter(ITEM_END, 0)];
    const second = element(0x00401001, 'SH', 'RP1');
    const items = [
      delimiter(ITEM, Buffer.concat(first).length),
      ...first,
      delimiter(ITEM, second.length),
      second,
      delimiter(SEQUENCE_END, 0),
    ];
    const { header } = await read([part10(EXPLICIT, ...rest, open(0x00400275), ...items)]);
    expect(header.attributes).toMatchObject({ AccessionNumber: 'A1', RequestedProcedureID: 'RP1' });
    expect(header.oddities).toEqual([]);
  });

  test('an element that comes twice: the first counts', async () => {
    const again = element(0x0020000d, 'UI', '9');
    const { header } = await read([part10(EXPLICIT, ...rest, again)]);
    expect(header.identity.studyInstanceUid).toBe('1.2.13');
  });

  test('explicit VR under UN, where it should be implicit', async () => {
    const inside = [element(0x00080102, 'SH', '99XY'), element(0x00080104, 'UN', 'abcd')];
    const unknown = sequence(open(0x00080006, 'UN'), ...inside);
    const { header } = await read(chunksOf(part10(EXPLICIT, unknown, ...rest), 5));
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
    expect(header.oddities).toEqual([]);
  });

  test('UN of undefined length is little endian in a big endian data set too (PS3.5 section 6.2.2)', async () => {
    const whole = Buffer.from(instanceIn('explicit-big'));
    const at = whole.length - withoutMeta(whole).length;
    const unknown = sequence(implicitElement(0, '').subarray(0, 0), implicitElement(0x00080102, '99XY'));
    const head = Buffer.from([0, 8, 0, 6, 0x55, 0x4e, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    const bytes = Buffer.concat([whole.subarray(0, at), head, unknown, whole.subarray(at)]);
    expect((await read([bytes])).header).toEqual((await read([whole])).header);
  });
});

describe('attributes', () => {
  const read1 = async (...elements: readonly Buffer[]) =>
    (await read([part10(EXPLICIT, ...identityElements(), ...elements)])).header;

  test('what QIDO-RS answers by is read', async () => {
    const { attributes } = await read1(
      element(0x00080050, 'SH', 'ACC1'),
      element(0x00100010, 'PN', 'Doe^Jane'),
      element(0x00100020, 'LO', 'PID1'),
      element(0x00100030, 'DA', '19700101'),
      element(0x00200013, 'IS', '7'),
      element(0x00280010, 'US', Buffer.from([0x00, 0x02])),
    );
    expect(attributes).toMatchObject({
      AccessionNumber: 'ACC1',
      PatientName: 'Doe^Jane',
      PatientID: 'PID1',
      PatientBirthDate: '19700101',
      InstanceNumber: '7',
      Rows: '512',
    });
  });

  test.each(BARE)('%s: numbers', async (transferSyntax) => {
    const { header } = await read([instanceIn(transferSyntax)]);
    expect(header.attributes).toMatchObject({ Rows: '9', Columns: '7', BitsAllocated: '16' });
  });

  const requested = element(0x00401003, 'SH', 'STAT');
  const other = element(0x00401001, 'SH', 'RP1');
  test.each([
    ['delimited', sequence(open(0x00400275), other, requested)],
    [
      'of known length',
      element(0x00400275, 'SQ', Buffer.concat([delimiter(ITEM, other.length + requested.length), other, requested])),
    ],
    [
      'delimited items in a known length',
      element(0x00400275, 'SQ', Buffer.concat([delimiter(ITEM), other, requested, delimiter(ITEM_END, 0)])),
    ],
    [
      'under UN',
      sequence(open(0x00400275, 'UN'), implicitElement(0x00401001, 'RP1'), implicitElement(0x00401003, 'STAT')),
    ],
  ])('Request Attributes Sequence (PS3.3 table 10-9), %s', async (_, bytes) => {
    for (const size of [1, 1 << 20]) {
      const file = part10(EXPLICIT, ...identityElements(), bytes, element(0x00401009, 'SH', 'LOW'));
      const { header } = await read(chunksOf(file, size));
      expect(header.attributes).toMatchObject({
        RequestedProcedurePriority: 'STAT',
        RequestedProcedureID: 'RP1',
        ReportingPriority: 'LOW',
      });
      expect(header.oddities).toEqual([]);
    }
  });

  test('the priorities of all requests, and of the data set itself, are kept', async () => {
    const item = (text: string) => [delimiter(ITEM), element(0x00401003, 'SH', text), delimiter(ITEM_END, 0)];
    const items = [...item('ROUTINE'), ...item('STAT')];
    const request = Buffer.concat([open(0x00400275), ...items, delimiter(SEQUENCE_END, 0)]);
    expect((await read1(request)).attributes.RequestedProcedurePriority).toBe('ROUTINE\\STAT');
    const both = await read1(request, element(0x00401003, 'SH', 'LOW'));
    expect(both.attributes.RequestedProcedurePriority).toBe('LOW\\ROUTINE\\STAT');
  });

  test.each(['1.2.840.10008.1.2.4.95', '1.2.840.10008.1.2.4.205'])(
    '%s is deflated too (PS3.5 annex A)',
    async (uid) => {
      const { header } = await read([part10(uid, deflateRawSync(Buffer.concat(identityElements())))]);
      expect(header.identity).toMatchObject({ sopInstanceUid: '1.2.18', transferSyntaxUid: uid });
      expect(header.oddities).toEqual([]);
    },
  );

  test('what the data set says itself counts before the request, and deeper sequences never', async () => {
    const deeper = sequence(open(0x00400008), element(0x00401001, 'SH', 'DEEP'));
    const item = [deeper, element(0x00401001, 'SH', 'INNER')];
    const first = await read1(sequence(open(0x00400275), ...item));
    expect(first.attributes.RequestedProcedureID).toBe('INNER');
    const second = await read1(sequence(open(0x00400275), ...item), element(0x00401001, 'SH', 'OUTER'));
    expect(second.attributes.RequestedProcedureID).toBe('OUTER');
  });

  test('text is decoded by Specific Character Set, whatever comes first', async () => {
    const name = element(0x00100010, 'PN', Buffer.from('M\xfcller', 'latin1'));
    const declared = await read1(name, element(0x00080005, 'CS', 'ISO_IR 100'));
    expect(declared.attributes.PatientName).toBe('Müller');
    expect(declared.oddities).toEqual([]);
    const undeclared = await read1(name);
    expect(undeclared.attributes.PatientName).toBe('Müller');
    expect(undeclared.oddities).toEqual(['charset-undeclared']);
  });

  test('a value of megabytes is passed over, and flagged', async () => {
    const { attributes, oddities } = await read1(element(0x00081030, 'UT', Buffer.alloc(5_000_000, 0x41)));
    expect(attributes).not.toHaveProperty('StudyDescription');
    expect(oddities).toEqual(['value-too-long']);
  });

  test('an offset from UTC keeps a leading space, which it must not have (PS3.3 C.12.1.1.8)', async () => {
    expect((await read1(element(0x00080201, 'SH', ' +0100'))).attributes.TimezoneOffsetFromUTC).toBe(' +0100');
  });

  test('a header of megabytes is read on, in bounded memory', async () => {
    const item = Buffer.concat([
      open(0x00209113),
      delimiter(ITEM),
      element(0x00200032, 'DS', '1\\2\\3'),
      delimiter(ITEM_END, 0),
      delimiter(SEQUENCE_END, 0),
    ]);
    const items = Buffer.alloc(item.length * 60_000, item);
    const frames = sequence(open(0x52009230), items);
    const bytes = part10(EXPLICIT, frames, ...identityElements());
    expect(bytes.length).toBeGreaterThan(3_000_000);
    const { header } = await read(chunksOf(bytes, 65_536));
    expect(header.identity.sopInstanceUid).toBe('1.2.18');
  });
});

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}
