import assert from 'node:assert/strict';
import type { BlobPlacement, BlobStore, StoredBlob } from '../storage/blob-store.ts';
import type { ContractOptions } from './contract.ts';

const DIGEST = 'a'.repeat(64);

function placement(change: Partial<BlobPlacement> & { readonly uid?: string } = {}): BlobPlacement {
  const { uid = '1.2.3.4', ...rest } = change;
  const identity = {
    studyInstanceUid: '1.2.3',
    seriesInstanceUid: '1.2.3.1',
    sopInstanceUid: uid,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  return { identity, arrivalId: '0000000000000001', digest: DIGEST, ...rest };
}

async function store(blobs: BlobStore, bytes: Uint8Array, at: BlobPlacement): Promise<string> {
  const writer = await blobs.create();
  await writer.write(bytes);
  const ref = await writer.place(at);
  await writer.release();
  return ref;
}

async function bytesOf(blobs: BlobStore, ref: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blobs.read(ref)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function listed(blobs: BlobStore): Promise<readonly StoredBlob[]> {
  const found: StoredBlob[] = [];
  for await (const blob of blobs.list()) found.push(blob);
  return found.sort((a, b) => (a.ref < b.ref ? -1 : 1));
}

type BlobTest = (name: string, run: (blobs: BlobStore, reopen: () => Promise<BlobStore>) => Promise<void>) => void;

function blobTester({ test, makeStore }: Pick<ContractOptions, 'test' | 'makeStore'>): BlobTest {
  return (name, run) =>
    test(`blobs: ${name}`, async () => {
      const { store: made, dispose } = await makeStore();
      let opened = await made.open();
      try {
        await run(opened.blobs, async () => {
          await opened.close();
          opened = await made.open();
          return opened.blobs;
        });
      } finally {
        await opened.close();
        await dispose();
      }
    });
}

function asideChecks(blobTest: BlobTest): void {
  blobTest('set aside is not under its reference any more, which may be placed again', async (blobs, reopen) => {
    const other = await store(blobs, Buffer.from('other'), placement({ arrivalId: '0000000000000002' }));
    const ref = await store(blobs, Buffer.from('damaged'), placement());
    await blobs.setAside(ref);
    await blobs.setAside(ref);
    assert.equal(await blobs.has(ref), false);
    await assert.rejects(bytesOf(blobs, ref), isNotFound);
    assert.deepEqual(
      (await listed(blobs)).map((blob) => blob.ref),
      [other],
    );
    assert.equal(await store(blobs, Buffer.from('anew'), placement()), ref);
    assert.equal((await bytesOf(blobs, ref)).toString(), 'anew');
    await blobs.setAside(ref);
    const again = await reopen();
    assert.equal(await again.recover(async () => false), 0);
    assert.equal(await again.has(ref), false);
    assert.equal((await bytesOf(again, other)).toString(), 'other');
  });
}

function listChecks(blobTest: BlobTest): void {
  blobTest('lists all that is placed, as it was placed, and nothing that is in flight', async (blobs, reopen) => {
    assert.deepEqual(await listed(blobs), []);
    await (await blobs.create()).write(Buffer.from('in flight'));
    const odd = ['1.2.3', '1.2.4', 'a b', 'x'.repeat(300)];
    const expected: StoredBlob[] = [];
    for (const [index, uid] of odd.entries()) {
      const arrivalId = `${index}`.padStart(16, '0');
      const ref = await store(blobs, Buffer.alloc(index * 10), placement({ uid, arrivalId }));
      expected.push({ ref, arrivalId, digest: DIGEST, bytes: index * 10 });
    }
    expected.sort((a, b) => (a.ref < b.ref ? -1 : 1));
    assert.deepEqual(await listed(blobs), expected);
    const again = await reopen();
    await again.recover(async () => false);
    assert.deepEqual(await listed(again), expected);
    for (const { ref } of expected) await again.remove(ref);
    assert.deepEqual(await listed(again), []);
    assert.equal((await listed(again)).length, 0);
  });

  blobTest('lists what stays while others come and go', async (blobs) => {
    const place = (index: number) => {
      const study = `1.2.${index % 7}`;
      const identity = { ...placement().identity, studyInstanceUid: study, sopInstanceUid: `1.3.${index}` };
      return store(blobs, Buffer.from('x'), placement({ identity, arrivalId: `${index}`.padStart(16, '0') }));
    };
    const refs: string[] = [];
    for (let index = 0; index < 60; index += 1) refs.push(await place(index));
    const stays = new Set(refs.filter((_, index) => index % 3 !== 0));
    const goes = refs.filter((_, index) => index % 3 === 0);
    const seen: string[] = [];
    let next = 60;
    for await (const { ref } of blobs.list()) {
      seen.push(ref);
      const gone = goes.pop();
      if (gone !== undefined) await blobs.remove(gone);
      if (next < 90) await place(next++);
    }
    assert.equal(new Set(seen).size, seen.length, 'none twice');
    assert.deepEqual(
      [...stays].filter((ref) => !seen.includes(ref)),
      [],
    );
    for await (const _ of blobs.list()) break;
  });
}

/** Of a store that takes 1,000 bytes. */
function roomChecks(blobTest: BlobTest): void {
  blobTest('room shrinks with what is stored and grows with what is removed', async (blobs) => {
    const room = async (bytes: number) =>
      assert.deepEqual(await blobs.room(), { bytes, ofBytes: 1000, limitedBy: 'maxBytes' });
    await room(1000);
    const ref = await store(blobs, Buffer.alloc(600), placement());
    await room(400);
    const writer = await blobs.create();
    await writer.write(Buffer.alloc(100));
    await writer.abort();
    await writer.abort();
    await room(400);
    const placed = await blobs.create();
    await placed.write(Buffer.alloc(100));
    await placed.place(placement({ arrivalId: '0000000000000002' }));
    await placed.abort();
    await room(400);
    await Promise.all([blobs.remove(ref), blobs.remove(ref)]);
    await blobs.remove(ref);
    await room(1000);
  });

  blobTest('a full store refuses, and takes again when there is room', async (blobs) => {
    const ref = await store(blobs, Buffer.alloc(999), placement());
    await store(blobs, Buffer.alloc(200), placement({ arrivalId: '0000000000000002' }));
    assert.deepEqual(await blobs.room(), { bytes: 0, ofBytes: 1000, limitedBy: 'maxBytes' });
    await assert.rejects(blobs.create(), { code: 'SPILLWAY_STORE_FULL' });
    assert.equal((await bytesOf(blobs, ref)).length, 999, 'what is here can be read');
    assert.equal((await listed(blobs)).length, 2);
    await blobs.remove(ref);
    assert.deepEqual(await blobs.room(), { bytes: 800, ofBytes: 1000, limitedBy: 'maxBytes' });
    await store(blobs, Buffer.alloc(1), placement());
  });
}

const isNotFound = { code: 'SPILLWAY_NOT_FOUND' };

/**
 * The contract of a `BlobStore`, as tests; see the comments of the interface. Faults of the medium (full, failing) need
 * the medium, and are not part of it.
 */
export function blobContract(options: ContractOptions): void {
  const { test } = options;
  const blobTest = blobTester(options);

  blobTest('what was placed is read back, whole, as often as asked', async (blobs) => {
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => index % 251));
    const writer = await blobs.create();
    for (let at = 0; at < bytes.length; at += 700_001) await writer.write(bytes.subarray(at, at + 700_001));
    const ref = await writer.place(placement());
    await writer.release();
    assert.ok((await bytesOf(blobs, ref)).equals(bytes));
    assert.ok((await bytesOf(blobs, ref)).equals(bytes));
    for await (const chunk of blobs.read(ref)) assert.ok(chunk.byteLength <= 1024 * 1024);
  });

  blobTest('a writer keeps no reference to a chunk', async (blobs) => {
    const chunk = Buffer.from('first');
    const writer = await blobs.create();
    await writer.write(chunk);
    chunk.write('other');
    const ref = await writer.place(placement());
    await writer.release();
    assert.equal((await bytesOf(blobs, ref)).toString(), 'first');
  });

  blobTest('no bytes are a blob too', async (blobs) => {
    assert.equal((await bytesOf(blobs, await store(blobs, new Uint8Array(0), placement()))).length, 0);
  });

  blobTest('two blobs of one instance stand side by side', async (blobs) => {
    const first = await store(blobs, Buffer.from('one'), placement());
    const second = await store(blobs, Buffer.from('two'), placement({ arrivalId: '0000000000000002' }));
    assert.notEqual(first, second);
    assert.equal((await bytesOf(blobs, first)).toString(), 'one');
    assert.equal((await bytesOf(blobs, second)).toString(), 'two');
  });

  blobTest('placing never overwrites', async (blobs) => {
    const ref = await store(blobs, Buffer.from('one'), placement());
    const writer = await blobs.create();
    await writer.write(Buffer.from('two'));
    await assert.rejects(writer.place(placement()), { code: 'SPILLWAY_STORE_FAILED' });
    await writer.abort();
    assert.equal((await bytesOf(blobs, ref)).toString(), 'one');
  });

  blobTest('many in flight at once', async (blobs) => {
    const refs = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        store(
          blobs,
          Buffer.from(`blob ${index}`),
          placement({ uid: `1.2.${index}`, arrivalId: `${index}`.padStart(16, '0') }),
        ),
      ),
    );
    for (const [index, ref] of refs.entries()) assert.equal((await bytesOf(blobs, ref)).toString(), `blob ${index}`);
  });

  blobTest('aborted before or after it was placed, nothing stays', async (blobs) => {
    const unplaced = await blobs.create();
    await unplaced.write(Buffer.from('x'));
    await unplaced.abort();
    await unplaced.abort();
    const placed = await blobs.create();
    await placed.write(Buffer.from('x'));
    const ref = await placed.place(placement());
    await placed.abort();
    await assert.rejects(bytesOf(blobs, ref), isNotFound);
  });

  blobTest('a blob whose sync was begun is placed or aborted like any other, and takes no more', async (blobs) => {
    const placed = await blobs.create();
    await placed.write(Buffer.from('x'));
    placed.beginSync();
    const ref = await placed.place(placement());
    await placed.release();
    assert.equal((await bytesOf(blobs, ref)).toString(), 'x');
    const aborted = await blobs.create();
    await aborted.write(Buffer.from('y'));
    aborted.beginSync();
    await assert.rejects(aborted.write(Buffer.from('z')));
    await aborted.abort();
    await aborted.abort();
  });

  blobTest('removed is gone, and removing twice is no error', async (blobs) => {
    const ref = await store(blobs, Buffer.from('x'), placement());
    assert.equal(await blobs.has(ref), true);
    await blobs.remove(ref);
    await blobs.remove(ref);
    assert.equal(await blobs.has(ref), false);
    await assert.rejects(bytesOf(blobs, ref), isNotFound);
    assert.equal((await bytesOf(blobs, await store(blobs, Buffer.from('y'), placement()))).toString(), 'y');
  });

  blobTest('reading may end early', async (blobs) => {
    const ref = await store(blobs, Buffer.alloc(3_000_000), placement());
    for await (const _ of blobs.read(ref)) break;
    await blobs.remove(ref);
  });

  blobTest('odd UIDs make blobs like any other, apart from each other', async (blobs) => {
    const odd = ['a b', 'ä', 'x'.repeat(300), 'CON', '1.2.3.'];
    const refs = await Promise.all(
      odd.map((uid, index) =>
        store(blobs, Buffer.from(uid), placement({ uid, arrivalId: `${index}`.padStart(16, '0') })),
      ),
    );
    for (const [index, ref] of refs.entries()) assert.equal((await bytesOf(blobs, ref)).toString(), odd[index]);
  });

  blobTest(
    'after a reopening, what was released is there and what was in flight is judged by the catalog',
    async (blobs, reopen) => {
      const released = await store(blobs, Buffer.from('released'), placement());
      await (await blobs.create()).write(Buffer.from('half'));
      const place = async (arrivalId: string) => {
        const writer = await blobs.create();
        // A whole instance: recovery may have to read it.
        await writer.write(minimalInstance());
        return writer.place(placement({ arrivalId }));
      };
      const known = await place('0000000000000002');
      const unknown = await place('0000000000000003');
      const again = await reopen();
      await again.recover(async (arrivalId) => arrivalId === '0000000000000002');
      assert.equal((await bytesOf(again, released)).toString(), 'released');
      assert.ok((await bytesOf(again, known)).equals(minimalInstance()));
      await assert.rejects(bytesOf(again, unknown), isNotFound);
      assert.equal(await again.recover(async () => false), 0);
      assert.ok((await bytesOf(again, known)).equals(minimalInstance()));
    },
  );

  asideChecks(blobTest);
  listChecks(blobTest);
  const { makeBoundedStore } = options;
  if (makeBoundedStore !== undefined) {
    roomChecks(blobTester({ test, makeStore: () => makeBoundedStore(1000) }));
  }
}

/** A Part 10 file in explicit VR little endian with no more than the UIDs of `placement()`. */
function minimalInstance(): Buffer {
  const element = (group: number, number: number, vr: string, value: string): Buffer => {
    const header = Buffer.alloc(8);
    const padded = value.length % 2 === 0 ? value : `${value}\0`;
    header.writeUInt16LE(group, 0);
    header.writeUInt16LE(number, 2);
    header.write(vr, 4, 'latin1');
    header.writeUInt16LE(padded.length, 6);
    return Buffer.concat([header, Buffer.from(padded, 'latin1')]);
  };
  const { identity } = placement();
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM'),
    element(0x0002, 0x0010, 'UI', identity.transferSyntaxUid),
    element(0x0008, 0x0016, 'UI', identity.sopClassUid),
    element(0x0008, 0x0018, 'UI', identity.sopInstanceUid),
    element(0x0020, 0x000d, 'UI', identity.studyInstanceUid),
    element(0x0020, 0x000e, 'UI', identity.seriesInstanceUid),
  ]);
}
