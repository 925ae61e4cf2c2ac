import { copyFile, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Acceptance } from '../src/storage/catalog.ts';
import { openSqliteCatalog } from '../src/storage/sqlite/sqlite-catalog.ts';
import { openSqliteDatabase } from '../src/storage/sqlite/sqlite-database.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
const WAL_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const PAGE_BYTES = 4096;
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES;
const COMMITS = 16;

/** A catalog after some commits, as it lies on the disk while it is open, and how long its log was at each. */
async function written() {
  const directory = await temporaryDirectory();
  const file = join(directory, 'catalog.sqlite');
  const catalog = await openSqliteCatalog({ file });
  await catalog.registerDestination('pacs');
  const acknowledged: { readonly arrivalId: string; readonly walBytes: number }[] = [];
  for (let number = 1; number <= COMMITS; number += 1) {
    const acceptance = offer(number);
    await catalog.accept([acceptance]);
    acknowledged.push({ arrivalId: acceptance.version.arrivalId, walBytes: (await stat(`${file}-wal`)).size });
  }
  const copy = join(directory, 'copy.sqlite');
  await copyFile(file, copy);
  await copyFile(`${file}-wal`, `${copy}-wal`);
  await catalog.close();
  return { directory, copy, acknowledged, walBytes: acknowledged.at(-1)?.walBytes ?? 0 };
}

/** Opens what a loss of power left, and says which arrivals it holds. */
function arrivalsIn(file: string): Set<string> {
  const database = openSqliteDatabase({ file });
  try {
    const versions = database.operations.versions({ limit: 1_000 });
    const [destination] = database.operations.destinations();
    expect(destination?.pending ?? 0).toBe(versions.length);
    return new Set(versions.map(({ arrivalId }) => arrivalId));
  } finally {
    database.close();
  }
}

test('the log cut at and inside every frame: what was acknowledged before the cut is there, the rest whole or not at all', async () => {
  const { directory, copy, acknowledged, walBytes } = await written();
  const frames = (walBytes - WAL_HEADER_BYTES) / FRAME_BYTES;
  expect(Number.isInteger(frames)).toBe(true);
  expect(frames).toBeGreaterThan(COMMITS);
  let cuts = 0;
  for (let frame = 0; frame <= frames; frame += 1) {
    const start = WAL_HEADER_BYTES + frame * FRAME_BYTES;
    for (const inside of [0, 1, FRAME_HEADER_BYTES, FRAME_BYTES / 2, FRAME_BYTES - 1]) {
      if (start + inside > walBytes) continue;
      const cut = join(directory, 'cut.sqlite');
      await copyFile(copy, cut);
      await copyFile(`${copy}-wal`, `${cut}-wal`);
      await truncate(`${cut}-wal`, start + inside);
      const found = arrivalsIn(cut);
      const due = acknowledged.filter((each) => each.walBytes <= start + inside).map(({ arrivalId }) => arrivalId);
      expect(
        due.filter((arrivalId) => !found.has(arrivalId)),
        `cut at ${start + inside}`,
      ).toEqual([]);
      cuts += 1;
    }
  }
  console.log(`catalog: the log of ${COMMITS} commits cut at ${cuts} places in ${frames} frames`);
}, 60_000);

test('rubbish behind the last acknowledged sync changes nothing of what was before it', async () => {
  const { directory, copy, acknowledged } = await written();
  const random = seededRandom(5);
  const wal = await readFile(`${copy}-wal`);
  for (let run = 0; run < 100; run += 1) {
    const known = Math.floor(random() * acknowledged.length);
    const from = acknowledged[known]?.walBytes ?? 0;
    const torn = Buffer.from(wal);
    for (let count = 0; count < 50; count += 1) {
      const at = from + Math.floor(random() * (torn.length - from));
      if (at < torn.length) torn[at] = Math.floor(random() * 256);
    }
    const file = join(directory, 'torn.sqlite');
    await copyFile(copy, file);
    await writeFile(`${file}-wal`, torn);
    const found = arrivalsIn(file);
    const due = acknowledged.slice(0, known + 1).map(({ arrivalId }) => arrivalId);
    expect(
      due.filter((arrivalId) => !found.has(arrivalId)),
      `run ${run}`,
    ).toEqual([]);
  }
}, 60_000);

function offer(number: number): Acceptance {
  const study = `1.2.${number % 3}`;
  const identity = {
    studyInstanceUid: study,
    seriesInstanceUid: `${study}.1`,
    sopInstanceUid: `${study}.1.${number}`,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  const arrivalId = String(number).padStart(16, '0');
  const version = {
    arrivalId,
    identity,
    digest: arrivalId,
    bytes: 100,
    blobRef: arrivalId,
    receivedAt: 1,
    oddities: [],
    presence: 'kept' as const,
  };
  const rank = { tier: 0, urgency: 'unknown', acquiredAt: 0, basis: 'dated', ageTier: 0, ruledTier: null } as const;
  return { version, attributes: {}, source: null, urgency: null, deliveries: [{ destinationId: 'pacs', rank }] };
}
