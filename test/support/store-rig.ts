import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import type { VersionRecord } from '../../src/domain/delivery.ts';
import type { LogEntry } from '../../src/domain/log.ts';
import type { Receipt } from '../../src/domain/receipt.ts';
import type { WalkReport } from '../../src/retention/walk.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../../src/spillway.ts';
import { type FileSystem, nodeFileSystem } from '../../src/storage/directory/file-system.ts';
import type { RoomLimits } from '../../src/storage/directory/room.ts';
import { openFileStore } from '../../src/storage/file-store.ts';
import type { OpenStore, Rebuild } from '../../src/storage/store.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { ScriptedTransport } from './scripted-transport.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const YEAR = 365 * 24 * 3_600_000;
const PAGE_SIZE = 1_000;
const STEP_MS = 100;
const MAX_STEPS = 20_000;
const TURNS_A_SECOND = 50;

/** One opening of a store, and what was heard of it. */
export interface Opening {
  readonly spillway: Spillway;
  readonly store: OpenStore;
  readonly rebuilt: Rebuild[];
  readonly walked: WalkReport[];
  readonly damaged: string[];
  readonly faults: unknown[];
  close(): Promise<void>;
}

/** A store in a directory, opened again and again in virtual time, with a peer that outlives it and all receipts. */
export class StoreRig {
  readonly clock = new VirtualClock(NOON);
  readonly peer = new ScriptedTransport();
  /** Where instances of the patient ARCHIVE go; it is down until it is told otherwise. */
  readonly archive = new ScriptedTransport();
  readonly directory: string;
  readonly receipts = new Map<string, Receipt>();
  fileSystem: FileSystem = nodeFileSystem;
  limits: RoomLimits = { minFreeBytes: 0 };

  private constructor(directory: string) {
    this.directory = directory;
    this.archive.reachable = false;
  }

  static async make(): Promise<StoreRig> {
    return new StoreRig(join(await temporaryDirectory(), 'store'));
  }

  /** The same store in another directory, with the same peers; this one is closed. */
  async copy(): Promise<StoreRig> {
    const copy = await StoreRig.make();
    await cp(this.directory, copy.directory, { recursive: true });
    for (const [arrivalId, receipt] of this.receipts) copy.receipts.set(arrivalId, receipt);
    for (const key of ['peer', 'archive'] as const)
      for (const [uid, held] of this[key].held) copy[key].held.set(uid, held);
    return copy;
  }

  path(...names: readonly string[]): string {
    return join(this.directory, ...names);
  }

  async open(options: Partial<SpillwayOptions> = {}): Promise<Opening> {
    let store: OpenStore | undefined;
    const spillway = await openSpillway({
      store: {
        open: async () => {
          store = await openFileStore(this.directory, this.fileSystem, this.limits);
          return store;
        },
      },
      destinations: [
        { id: 'pacs', transport: this.peer },
        { id: 'archive', transport: this.archive },
      ],
      route: ({ attributes }) => [attributes.PatientID === 'ARCHIVE' ? 'archive' : 'pacs'],
      clock: this.clock,
      closeTimeoutMs: 0,
      checksPerSecond: 1_000_000,
      snapshotIntervalMs: YEAR,
      ...options,
    });
    if (store === undefined) throw new Error('it was not opened');
    let isClosed = false;
    const opening: Opening = {
      spillway,
      store,
      rebuilt: [],
      walked: [],
      damaged: [],
      faults: [],
      close: async () => {
        if (isClosed) return;
        const closing = spillway.close().finally(() => {
          isClosed = true;
        });
        await this.until(() => isClosed, 'closed');
        await closing;
      },
    };
    spillway.on('rebuilt', (rebuild) => opening.rebuilt.push(rebuild));
    spillway.on('walked', (report) => opening.walked.push(report));
    spillway.on('damaged', ({ arrivalId }) => opening.damaged.push(arrivalId));
    spillway.on('fault', ({ error }) => opening.faults.push(error));
    onTestFinished(() => opening.close());
    return opening;
  }

  /** Opens it, and waits until it was walked through. */
  async openAndWalk(options: Partial<SpillwayOptions> = {}): Promise<Opening> {
    const opening = await this.open(options);
    await this.until(() => opening.walked.length > 0, 'walked');
    return opening;
  }

  async accept({ spillway }: Opening, instances: readonly Uint8Array[]): Promise<readonly Receipt[]> {
    const receipts = await Promise.all(instances.map((bytes) => spillway.accept(bytes)));
    for (const receipt of receipts) this.receipts.set(receipt.arrivalId, receipt);
    return receipts;
  }

  /** Lets virtual time pass, and real work in other threads happen, until the condition holds. */
  async until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
    for (let step = 0; step < MAX_STEPS; step += 1) {
      if (await condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.clock.advance(STEP_MS);
    }
    throw new Error(`It never came about: ${what}`);
  }

  drained({ spillway }: Opening): Promise<void> {
    const isDrained = async () =>
      (await spillway.status()).destinations.every(({ backlog }) => backlog.instances === 0);
    return this.until(isDrained, 'drained');
  }

  /** As much real work as there is to do, a look at it, and a second of virtual time goes by. */
  async second(look: (now: number) => void): Promise<void> {
    for (let turn = 0; turn < TURNS_A_SECOND; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
    look(this.clock.now());
    this.clock.advance(1_000);
  }

  /** What has become of each acknowledged instance: bytes that are here are read, and must be what was accepted. */
  async presences({ store }: Opening): Promise<ReadonlyMap<string, VersionRecord['presence'] | 'unknown'>> {
    const found = new Map<string, VersionRecord['presence'] | 'unknown'>();
    for (const { arrivalId, identity, digest } of this.receipts.values()) {
      const version = await store.catalog.findVersion({ ...identity, digest });
      found.set(arrivalId, version?.presence ?? 'unknown');
      if (version?.presence !== 'kept' && version?.presence !== 'unconfirmed') continue;
      expect((await readAndDigest(store.blobs.read(version.blobRef))).digest, arrivalId).toBe(digest);
    }
    return found;
  }
}

/** Arrival ids of the deliveries of a destination in a state. */
export async function inState(
  { store }: Opening,
  state: 'pending' | 'sent' | 'verified' | 'quarantined' | 'discarded',
  destinationId = 'pacs',
): Promise<readonly string[]> {
  const page = await store.catalog.deliveries({ destinationId, state, afterId: 0, limit: PAGE_SIZE });
  return page.deliveries.map(({ arrivalId }) => arrivalId);
}

export async function logOf({ spillway }: Opening): Promise<readonly LogEntry[]> {
  const entries: LogEntry[] = [];
  for await (const entry of spillway.log()) entries.push(entry);
  return entries;
}
