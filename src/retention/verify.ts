import type { AbortableOptions } from '../domain/abort.ts';
import type { Clock } from '../domain/clock.ts';
import type { VersionRecord } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import { Pacer } from '../pacer.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Catalog } from '../storage/catalog.ts';
import { brokenLink } from '../storage/event-log.ts';
import { examine } from './examine.ts';

const PAGE_SIZE = 200;
const DEFAULT_BYTES_PER_SECOND = 64 * 1024 * 1024;
/** Named one by one; the counts go on. */
const MAX_NAMED = 1_000;

/** How `verify` reads. */
export interface VerifyOptions extends AbortableOptions {
  /** Only this study. @default everything that is held */
  readonly studyInstanceUid?: string | undefined;
  /** Read a second, so that intake and replay have the disk. @default 64 MiB */
  readonly maxBytesPerSecond?: number | undefined;
  /** Told after each 200 instances. */
  readonly onProgress?: ((report: VerifyReport) => void) | undefined;
}

/** What reading everything again has shown. */
export interface VerifyReport {
  readonly instances: number;
  readonly bytes: number;
  /** Whose bytes are not what they were: set aside, and missing from now on. */
  readonly damaged: number;
  /** Whose bytes are gone. */
  readonly missing: number;
  /** Whose bytes could not be read this time; left as they are. */
  readonly unreadable: number;
  /** The first 1,000 of these. */
  readonly named: readonly { readonly arrivalId: string; readonly what: 'damaged' | 'missing' | 'unreadable' }[];
  /** Entries of the event log that are chained as they were written. */
  readonly logEntries: number;
  /** The first entry that is not; null when all are. */
  readonly logBrokenAt: number | null;
}

/** Reads every instance again and compares its digest, and follows the chain of the event log. */
export async function verifyStore(
  {
    catalog,
    blobs,
    clock,
    onDamaged,
  }: {
    readonly catalog: Catalog;
    readonly blobs: BlobStore;
    readonly clock: Clock;
    /** Told of what is damaged or gone; returns whether it still is. */
    readonly onDamaged: (version: VersionRecord) => Promise<boolean>;
  },
  options: VerifyOptions,
): Promise<VerifyReport> {
  const signal = options.signal ?? new AbortController().signal;
  const pacer = new Pacer(clock, options.maxBytesPerSecond ?? DEFAULT_BYTES_PER_SECOND, signal);
  const named: { arrivalId: string; what: 'damaged' | 'missing' | 'unreadable' }[] = [];
  const report = {
    instances: 0,
    bytes: 0,
    damaged: 0,
    missing: 0,
    unreadable: 0,
    named,
    logEntries: 0,
    logBrokenAt: null as number | null,
  };
  const study = options.studyInstanceUid === undefined ? {} : { studyInstanceUid: options.studyInstanceUid };
  for (let afterArrivalId = ''; ; ) {
    const page = await catalog.versions({ ...study, afterArrivalId, limit: PAGE_SIZE });
    for (const version of page) {
      assertGoesOn(signal);
      const found = await examine(blobs, version).catch(() => 'unreadable' as const);
      report.instances += 1;
      report.bytes += version.bytes;
      const isLost = found === 'damaged' || found === 'missing';
      if (found !== 'sound' && (await isStillHeld(catalog, version)) && (!isLost || (await onDamaged(version)))) {
        report[found] += 1;
        if (named.length < MAX_NAMED) named.push({ arrivalId: version.arrivalId, what: found });
      }
      await pacer.spend(version.bytes);
    }
    options.onProgress?.({ ...report, named: [...named] });
    if (page.length < PAGE_SIZE) break;
    afterArrivalId = page.at(-1)?.arrivalId ?? afterArrivalId;
  }
  await followLog(catalog, report, signal);
  return report;
}

/** It may have been evicted since the page was read. */
async function isStillHeld(catalog: Catalog, { identity, digest, blobRef }: VersionRecord): Promise<boolean> {
  const standing = await catalog.findVersion({ ...identity, digest });
  return (standing?.presence === 'kept' || standing?.presence === 'unconfirmed') && standing.blobRef === blobRef;
}

async function followLog(
  catalog: Catalog,
  report: { logEntries: number; logBrokenAt: number | null },
  signal: AbortSignal,
): Promise<void> {
  let last: { id: number; hash: string } | null = null;
  for (;;) {
    assertGoesOn(signal);
    const page = await catalog.log({ afterId: last?.id ?? 0, limit: PAGE_SIZE });
    const broken = brokenLink(last, page);
    if (broken !== null) {
      report.logBrokenAt = broken.id;
      return;
    }
    report.logEntries += page.length;
    last = page.at(-1) ?? last;
    if (page.length < PAGE_SIZE) return;
  }
}

function assertGoesOn(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new SpillwayError('SPILLWAY_ABORTED', 'Verifying was aborted by its signal.', { cause: signal.reason });
}
