import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SpillwayError } from '../src/errors.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { Store } from '../src/storage/store.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';
import { close, until } from './support/virtual-time.ts';

const small = { rows: 8, columns: 8 };

async function open(store: Store, options: Partial<SpillwayOptions> = {}): Promise<Spillway> {
  const transport = new ScriptedTransport();
  transport.reachable = false;
  const spillway = await openSpillway({
    store,
    destinations: [{ id: 'pacs', transport }],
    closeTimeoutMs: 100,
    ...options,
  });
  onTestFinished(() => spillway.close());
  return spillway;
}

async function filesUnder(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** The files of instances, whole or in pieces. */
async function instanceFiles(directory: string): Promise<string[]> {
  return (await filesUnder(directory)).filter((file) => /\.(dcm|part)$/.test(file));
}

describe('what accept takes', () => {
  const bytes = syntheticInstance({ ...small, seed: 7 });
  const sources: readonly [string, (directory: string) => Promise<Parameters<Spillway['accept']>[0]>][] = [
    ['bytes', async () => bytes],
    [
      'a path',
      async (directory) => {
        await writeFile(join(directory, 'a.dcm'), bytes);
        return join(directory, 'a.dcm');
      },
    ],
    [
      'a file: URL',
      async (directory) => {
        await writeFile(join(directory, 'a.dcm'), bytes);
        return pathToFileURL(join(directory, 'a.dcm'));
      },
    ],
    ['a web stream', async () => new Blob([Buffer.from(bytes)]).stream()],
    ['a Node stream', async () => Readable.from([bytes.subarray(0, 100), bytes.subarray(100)])],
  ];
  test.each(sources)('%s', async (_, make) => {
    const directory = await temporaryDirectory();
    const spillway = await open(memoryStore());
    const receipt = await spillway.accept(await make(directory));
    expect(receipt).toMatchObject({ outcome: 'created', bytes: bytes.byteLength, destinations: ['pacs'] });
  });

  test('the file in the store is the file that came, under its UIDs', async () => {
    const directory = await temporaryDirectory();
    const store = fileStore({ directory });
    const spillway = await open(store);
    const { identity, arrivalId, digest } = await spillway.accept(bytes);
    const [file, ...others] = await instanceFiles(directory);
    expect(others).toEqual([]);
    const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
    expect(file).toBe(
      join(directory, 'studies', studyInstanceUid, seriesInstanceUid, `${sopInstanceUid}.${arrivalId}-${digest}.dcm`),
    );
  });

  test('the receipt says which tier, and why', async () => {
    const spillway = await open(memoryStore(), { timeZone: 'UTC' });
    const old = await spillway.accept(
      syntheticInstance({ ...small, seed: 1, studyDate: '20010203', studyTime: '040506' }),
    );
    expect(old).toMatchObject({ tier: 'historical', urgency: 'unknown' });
    expect(old.tierReason).toContain('2001-02-03');
    const stat = await spillway.accept(syntheticInstance({ ...small, seed: 2 }), { urgency: 'stat' });
    expect(stat.urgency).toBe('stat');
  });

  test('a data set that is only short in itself is accepted, with the oddity named', async () => {
    const spillway = await open(memoryStore());
    const receipt = await spillway.accept(bytes.subarray(0, bytes.byteLength - 10));
    expect(receipt.oddities).toContain('truncated');
  });

  test('an odd but usable UID is accepted, its file under a hashed name', async () => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }));
    const receipt = await spillway.accept(syntheticInstance({ ...small, studyInstanceUid: 'STUDY 1 (ä)' }));
    expect(receipt.oddities).toContain('uid-nonstandard');
    const [file] = await instanceFiles(directory);
    expect(file).toMatch(/studies\/x[0-9a-f]{40}\//);
  });

  test('many of the same at once: one is created, the others are identical', async () => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }));
    const receipts = await Promise.all(Array.from({ length: 12 }, () => spillway.accept(bytes)));
    expect(receipts.filter(({ outcome }) => outcome === 'created')).toHaveLength(1);
    expect(receipts.filter(({ outcome }) => outcome === 'identical')).toHaveLength(11);
    expect(new Set(receipts.map(({ arrivalId }) => arrivalId)).size).toBe(1);
    expect(await instanceFiles(directory)).toHaveLength(1);
  });

  test('route decides, is given the source, and its answer is recorded', async () => {
    const asked: unknown[] = [];
    const spillway = await openSpillway({
      store: memoryStore(),
      destinations: ['a', 'b'].map((id) => {
        const transport = new ScriptedTransport();
        transport.reachable = false;
        return { id, transport };
      }),
      route: (instance, source) => {
        asked.push([instance.attributes.Modality, source]);
        return source === 'CT1' ? ['b'] : [];
      },
      closeTimeoutMs: 100,
    });
    onTestFinished(() => spillway.close());
    const routed = await spillway.accept(bytes, { source: 'CT1' });
    const kept = await spillway.accept(syntheticInstance({ ...small, seed: 8 }));
    expect([routed.destinations, kept.destinations]).toEqual([['b'], []]);
    expect(asked).toEqual([
      ['CT', 'CT1'],
      ['CT', null],
    ]);
    const { destinations } = await spillway.status();
    expect(destinations.map(({ destinationId, backlog }) => [destinationId, backlog.instances])).toEqual([
      ['a', 0],
      ['b', 1],
    ]);
  });
});

describe('what accept refuses: a coded error, and nothing stays', () => {
  const good = syntheticInstance({ ...small, seed: 1 });

  async function* broken(): AsyncGenerator<Uint8Array> {
    yield good.subarray(0, 300);
    throw new Error('cable pulled');
  }

  const destroyed = () => {
    const stream = new PassThrough();
    stream.write(good.subarray(0, 300));
    setImmediate(() => stream.destroy());
    return stream;
  };

  const cases: readonly [string, () => Promise<unknown> | unknown, string, object?][] = [
    ['text', () => Buffer.from('hello'), 'SPILLWAY_NOT_DICOM'],
    ['nothing', () => new Uint8Array(0), 'SPILLWAY_NOT_DICOM'],
    ['a web page', () => Buffer.from(`<!doctype html>${' '.repeat(500)}`), 'SPILLWAY_NOT_DICOM'],
    [
      'no SOP Instance UID',
      () => syntheticInstance({ ...small, omit: ['00080018', '00020003'] }),
      'SPILLWAY_IDENTITY_MISSING',
    ],
    ['no Study Instance UID', () => syntheticInstance({ ...small, omit: ['0020000D'] }), 'SPILLWAY_IDENTITY_MISSING'],
    [
      'a study UID that is a path',
      () => syntheticInstance({ ...small, studyInstanceUid: '../../x' }),
      'SPILLWAY_UID_UNSAFE',
    ],
    [
      'an instance UID that is a path',
      () => syntheticInstance({ ...small, sopInstanceUid: '/etc/passwd' }),
      'SPILLWAY_UID_UNSAFE',
    ],
    ['a stream that fails halfway', broken, 'SPILLWAY_INCOMPLETE'],
    ['a Node stream that is destroyed', destroyed, 'SPILLWAY_INCOMPLETE'],
    [
      'fewer bytes than promised',
      () => good.subarray(0, 400),
      'SPILLWAY_INCOMPLETE',
      { expectedBytes: good.byteLength },
    ],
    ['more bytes than promised', () => good, 'SPILLWAY_INCOMPLETE', { expectedBytes: 400 }],
    ['a file that is not there', () => '/nonexistent/a.dcm', 'SPILLWAY_INCOMPLETE'],
    ['more than maxInstanceBytes', () => syntheticInstance({ rows: 200, columns: 200 }), 'SPILLWAY_TOO_LARGE'],
    ['a number', () => 42, 'SPILLWAY_OPTION_INVALID'],
    ['a stream of texts', () => Readable.from(['abc', 'def']), 'SPILLWAY_OPTION_INVALID'],
    ['a call that is aborted', () => good, 'SPILLWAY_ABORTED', { signal: AbortSignal.abort() }],
  ];

  test.each(cases)('%s', async (_, make, code, options = {}) => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }), { maxInstanceBytes: 50_000 });
    const before = await spillway.accept(syntheticInstance({ ...small, seed: 99 }));
    const files = await instanceFiles(directory);
    const refusal = spillway.accept((await make()) as Uint8Array, options);
    await expect(refusal).rejects.toBeInstanceOf(SpillwayError);
    await expect(refusal).rejects.toMatchObject({ code });
    expect(await instanceFiles(directory)).toEqual(files);
    const { destinations } = await spillway.status();
    expect(destinations[0]?.backlog.instances).toBe(1);
    expect(await spillway.accept(syntheticInstance({ ...small, seed: 99 }))).toMatchObject({
      outcome: 'identical',
      arrivalId: before.arrivalId,
    });
  });

  test('a source that gives nothing for long is given up, and its place is free again', async () => {
    const directory = await temporaryDirectory();
    const clock = new VirtualClock(Date.now());
    const spillway = await open(fileStore({ directory }), {
      clock,
      maxConcurrentAccepts: 1,
      sourceIdleTimeoutMs: 5_000,
    });
    const stalled = new PassThrough();
    stalled.write(good.subarray(0, 300));
    const call = spillway.accept(stalled);
    const refused = expect(call).rejects.toMatchObject({
      code: 'SPILLWAY_INCOMPLETE',
      message: expect.stringContaining('5000 ms'),
    });
    const next = spillway.accept(good);
    let done = false;
    void next.then(() => {
      done = true;
    });
    await until(clock, () => done, 'the next one accepted');
    await refused;
    expect(await instanceFiles(directory)).toHaveLength(1);
    await close(clock, spillway);
  });

  test('a stalled source is left when the call is aborted', async () => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }));
    const stalled = new PassThrough();
    stalled.write(good.subarray(0, 300));
    const controller = new AbortController();
    const call = spillway.accept(stalled, { signal: controller.signal });
    setImmediate(() => controller.abort());
    await expect(call).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    expect(await instanceFiles(directory)).toEqual([]);
  });

  test.each([
    ['a destination that does not exist', () => ['elsewhere'], /"pacs".*"elsewhere"/],
    ['no list at all', () => 'pacs' as never, /pacs/],
    [
      'an error',
      () => {
        throw new Error('bug in route');
      },
      /bug in route/,
    ],
  ])('a route that answers with %s', async (_, route, message) => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }), { route });
    await expect(spillway.accept(good)).rejects.toMatchObject({
      code: 'SPILLWAY_ROUTE_INVALID',
      message: expect.stringMatching(message),
    });
    expect(await instanceFiles(directory)).toEqual([]);
  });

  test('a source that stalls does not keep the spillway from closing', async () => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }), { closeTimeoutMs: 1 });
    const stalled = new PassThrough();
    stalled.write(good.subarray(0, 300));
    const call = spillway.accept(stalled);
    const refused = expect(call).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
    await spillway.close();
    await refused;
    expect(await instanceFiles(directory)).toEqual([]);
  });

  test('after close', async () => {
    const spillway = await open(memoryStore());
    await spillway.close();
    await expect(spillway.accept(good)).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
    await expect(spillway.status()).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
  });
});

describe('options', () => {
  const transport = new ScriptedTransport();
  const valid: SpillwayOptions = { store: memoryStore(), destinations: [{ id: 'pacs', transport }] };
  test.each<[string, object, RegExp]>([
    ['no store', { store: undefined }, /store/],
    ['destinations that are no list', { destinations: {} }, /destinations/],
    ['a destination without an id', { destinations: [{ transport }] }, /id/],
    [
      'one id twice',
      {
        destinations: [
          { id: 'a', transport },
          { id: 'a', transport },
        ],
      },
      /differ/,
    ],
    ['a destination without a transport', { destinations: [{ id: 'a' }] }, /transport/],
    ['a verify level that is none', { destinations: [{ id: 'a', transport, verify: 'hoped' }] }, /verify/],
    ['no concurrency', { destinations: [{ id: 'a', transport, maxConcurrency: 0 }] }, /maxConcurrency/],
    ['a misspelt option', { maxInstanceByte: 1 }, /maxInstanceByte/],
    ['a size that is no number', { maxInstanceBytes: '1 MB' }, /maxInstanceBytes.*1 MB.*string/],
    ['a time zone that is none', { timeZone: 'Mars/Olympus' }, /timeZone/],
    ['tiers with a gap', { tiers: { tiers: [{ id: 'a', maxAgeMs: 5 }] } }, /gap/],
    ['a route that is no function', { route: ['pacs'] }, /route/],
  ])('%s is refused before anything is opened', async (_, change, message) => {
    const refusal = openSpillway({ ...valid, ...change } as SpillwayOptions);
    await expect(refusal).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringMatching(message),
    });
    const opened = await valid.store.open();
    await opened.close();
  });
});

describe('a commit that fails', () => {
  const instance = syntheticInstance({ ...small, seed: 3 });

  function failing(committedAnyway: boolean): Store {
    const inner = memoryStore();
    return {
      async open() {
        const opened = await inner.open();
        const { accept } = opened.catalog;
        opened.catalog.accept = async (batch) => {
          if (committedAnyway) await accept.call(opened.catalog, batch);
          throw new SpillwayError('SPILLWAY_STORE_FAILED', 'the disk is gone');
        };
        return opened;
      },
    };
  }

  test('and left nothing is an error, and nothing is kept', async () => {
    const spillway = await open(failing(false));
    await expect(spillway.accept(instance)).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED', isRetryable: true });
    const { destinations } = await spillway.status();
    expect(destinations[0]?.backlog.instances).toBe(0);
  });

  test('a row whose bytes are gone gets them back before it is acknowledged', async () => {
    const directory = await temporaryDirectory();
    const spillway = await open(fileStore({ directory }));
    const receipt = await spillway.accept(instance);
    const [file = ''] = await instanceFiles(directory);
    await rm(file);
    expect(await spillway.accept(instance)).toMatchObject({ outcome: 'restored', arrivalId: receipt.arrivalId });
    expect(await instanceFiles(directory)).toEqual([file]);
    expect(Buffer.compare(await readFile(file), instance)).toBe(0);
  });

  test('whose outcome is open keeps the bytes, until the next opening knows', async () => {
    const directory = await temporaryDirectory();
    const inner = fileStore({ directory });
    let fail = true;
    let refused = () => {};
    const isRefused = new Promise<void>((resolve) => {
      refused = resolve;
    });
    const store: Store = {
      async open() {
        const opened = await inner.open();
        const { accept } = opened.catalog;
        const { blobs } = opened;
        const list = blobs.list.bind(blobs);
        // The walk comes to the file when it has been refused already.
        blobs.list = async function* () {
          await isRefused;
          yield* list();
        };
        opened.catalog.accept = async (batch) => {
          if (fail) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'the disk is gone');
          return accept.call(opened.catalog, batch);
        };
        return opened;
      },
    };
    const spillway = await open(store);
    const walked = new Promise((resolve) => spillway.on('walked', resolve));
    await expect(spillway.accept(instance)).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
    expect((await instanceFiles(directory)).filter((file) => file.endsWith('.dcm'))).toHaveLength(1);
    refused();
    expect(await walked).toMatchObject({ files: 1, takenUp: 0 });
    await spillway.close();
    fail = false;
    const again = await open(store);
    expect(await instanceFiles(directory)).toEqual([]);
    expect(await again.accept(instance)).toMatchObject({ outcome: 'created' });
  });

  test('but is there all the same is what it is: accepted, with its bytes', async () => {
    const spillway = await open(failing(true));
    const receipt = await spillway.accept(instance);
    expect(receipt.outcome).toBe('created');
    expect(await spillway.accept(instance)).toMatchObject({ outcome: 'identical' });
  });
});
