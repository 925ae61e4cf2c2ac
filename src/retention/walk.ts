import { readAndDigest } from '../dicom/data-set-digest.ts';
import type { Clock } from '../domain/clock.ts';
import { SpillwayError } from '../errors.ts';
import { Pacer } from '../pacer.ts';
import type { BlobStore, StoredBlob } from '../storage/blob-store.ts';
import type { Catalog, FoundInstance } from '../storage/catalog.ts';
import { examine, type PlacedBytes } from './examine.ts';

const PAGE_SIZE = 200;

/** How far a walk through the store has come, and what it has found. */
export interface WalkReport {
  /** `rows`: each version is looked for. `files`: each file is. `failed`: it broke off, and nothing is evicted. */
  readonly phase: 'rows' | 'files' | 'done' | 'failed';
  readonly rows: number;
  readonly files: number;
  /** Files that no row knew: instances that were taken up, to be confirmed. */
  readonly takenUp: number;
  /** Files of versions that are here under another name; removed. */
  readonly duplicates: number;
  /** Versions whose bytes are gone, and nobody has evicted them. */
  readonly missing: number;
  /** Files that no row knew, and whose data set is not the one that their name tells of: set aside. */
  readonly damaged: number;
  /** Files and folders that could not be read; the next walk tries again. */
  readonly unreadable: number;
  /** Files that are no instances, or not of spillway's naming: left as they are. */
  readonly foreign: number;
}

export interface WalkOptions {
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  /** Rows and files a second. */
  readonly perSecond: number;
  readonly signal: AbortSignal;
  /** Whether an arrival is being placed, so that no row knows it yet. */
  readonly isPlacing: (arrivalId: string) => boolean;
  readonly onProgress: (report: WalkReport) => void;
  /** The bytes of a file are not those that were placed under its name. */
  readonly onDamaged: (placed: PlacedBytes) => Promise<unknown>;
}

/**
 * Holds rows against files: a row without a file is missing, a file without a row is taken up. The rows come first, so that
 * a file that turns up under another name is not taken for one that is not needed.
 */
export async function walk(options: WalkOptions): Promise<WalkReport> {
  const report = {
    phase: 'rows',
    rows: 0,
    files: 0,
    takenUp: 0,
    duplicates: 0,
    missing: 0,
    damaged: 0,
    unreadable: 0,
    foreign: 0,
  };
  const tell = () => options.onProgress({ ...(report as WalkReport) });
  const pacer = new Pacer(options.clock, options.perSecond, options.signal);
  for (let afterArrivalId = ''; ; ) {
    const page = await options.catalog.versions({ afterArrivalId, limit: PAGE_SIZE });
    for (const { arrivalId, blobRef, bytes } of page) {
      const isThere = await options.blobs.has(blobRef).catch(() => null);
      if (isThere === null) report.unreadable += 1;
      if (isThere !== false) continue;
      const isMissing = await options.catalog.markMissing({ arrivalId, at: options.clock.now() });
      if (isMissing) options.blobs.countHeld?.(-bytes);
      report.missing += Number(isMissing);
    }
    report.rows += page.length;
    tell();
    if (page.length < PAGE_SIZE) break;
    afterArrivalId = page.at(-1)?.arrivalId ?? afterArrivalId;
    await pacer.spend(page.length);
    assertGoesOn(options.signal);
  }
  report.phase = 'files';
  let page: StoredBlob[] = [];
  const takeUp = async (instances: readonly FoundInstance[]) => {
    const outcomes = await options.catalog.takeUp({ instances, at: options.clock.now() });
    for (const [index, instance] of instances.entries()) {
      const { bytes } = instance.version;
      if (outcomes[index] === 'taken') {
        report.takenUp += 1;
        options.blobs.countHeld?.(bytes);
      }
      if (outcomes[index] !== 'duplicate' || !(await isHere(options, instance))) continue;
      options.blobs.countHeld?.(bytes);
      const isGone = await options.blobs.remove(instance.version.blobRef).then(
        () => true,
        () => false,
      );
      report[isGone ? 'duplicates' : 'unreadable'] += 1;
    }
  };
  const look = async () => {
    report.unreadable += page.filter(({ isUnreadable }) => isUnreadable).length;
    report.foreign += page.filter(({ arrivalId, isUnreadable }) => arrivalId === null && !isUnreadable).length;
    const byArrival = new Map(page.flatMap((blob) => (blob.arrivalId === null ? [] : [[blob.arrivalId, blob]])));
    const found: FoundInstance[] = [];
    for (const arrivalId of await options.catalog.unknownArrivals([...byArrival.keys()])) {
      const blob = byArrival.get(arrivalId);
      if (blob === undefined || options.isPlacing(arrivalId)) continue;
      assertGoesOn(options.signal);
      const instance = await readInstance(options.blobs, blob, arrivalId);
      if (instance === 'foreign' || instance === 'unreadable') report[instance] += 1;
      else if (instance === 'damaged') {
        await options.onDamaged({
          arrivalId,
          blobRef: blob.ref,
          digest: blob.digest ?? '',
          bytes: blob.bytes,
          identity: null,
        });
        report.damaged += 1;
      } else if (instance !== 'gone') found.push(instance);
    }
    if (found.length > 0) await takeUp(found);
    report.files += page.length;
    page = [];
    tell();
    assertGoesOn(options.signal);
  };
  for await (const blob of options.blobs.list()) {
    page.push(blob);
    if (page.length < PAGE_SIZE) continue;
    const { length } = page;
    await look();
    await pacer.spend(length);
  }
  await look();
  report.phase = 'done';
  tell();
  return report as WalkReport;
}

/** Whether the version that makes a file a duplicate has its own bytes, and they are sound: nothing is removed on a row's word alone. */
async function isHere({ catalog, blobs }: WalkOptions, { version }: FoundInstance): Promise<boolean> {
  const { identity, digest, blobRef } = version;
  const standing = await catalog.findVersion({ ...identity, digest });
  return (
    standing !== null && standing.blobRef !== blobRef && (await examine(blobs, standing).catch(() => null)) === 'sound'
  );
}

async function readInstance(
  blobs: BlobStore,
  { ref, bytes, digest: placed }: StoredBlob,
  arrivalId: string,
): Promise<FoundInstance | 'gone' | 'damaged' | 'foreign' | 'unreadable'> {
  try {
    const { header, digest } = await readAndDigest(blobs.read(ref));
    if (placed !== null && placed !== digest) return 'damaged';
    const receivedAt = receivedAtOf(arrivalId);
    return {
      version: {
        arrivalId,
        identity: header.identity,
        digest,
        bytes,
        blobRef: ref,
        receivedAt,
        oddities: header.oddities,
        presence: 'unconfirmed',
      },
      attributes: header.attributes,
    };
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    if (error.code === 'SPILLWAY_NOT_FOUND') return 'gone';
    if (error.code === 'SPILLWAY_STORE_FAILED') return 'unreadable';
    return placed === null ? 'foreign' : 'damaged';
  }
}

/** Arrival ids begin with the instant (ms) at which they were drawn. */
function receivedAtOf(arrivalId: string): number {
  return /^[0-9a-f]{16}$/.test(arrivalId) ? Number(BigInt(`0x${arrivalId}`) >> 16n) : 0;
}

function assertGoesOn(signal: AbortSignal): void {
  if (signal.aborted) throw new SpillwayError('SPILLWAY_ABORTED', 'The walk through the store was aborted.');
}
