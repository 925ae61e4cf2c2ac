import type { Clock } from '../domain/clock.ts';
import { SpillwayError } from '../errors.ts';
import type { BlobRoom } from '../storage/blob-store.ts';
import type { Holdings } from '../storage/catalog.ts';
import type { OpenStore, Rebuild } from '../storage/store.ts';
import { type EvictedStudy, Evictor } from './evictor.ts';
import { examine, examineForReplacement, type PlacedBytes } from './examine.ts';
import type { RetentionPolicy } from './policy.ts';
import { type VerifyOptions, type VerifyReport, verifyStore } from './verify.ts';
import { type WalkReport, walk } from './walk.ts';

/** The first copy of the catalog comes soon after an opening, and not in its way. */
const FIRST_SNAPSHOT_MS = 300_000;
const FULL_LOG_MS = 600_000;
/** After a failure of the store the walk is begun again. */
const WALK_AGAIN_MS = 60_000;

/** How the store stands. */
export interface StorageStatus extends Holdings {
  readonly room: BlobRoom;
  /** Why nothing could be evicted when an instance was refused for want of room; null while instances are taken. */
  readonly fullBecause: string | null;
  /** How far the walk that follows every opening has come; null before it began. Nothing is evicted until it is done. */
  readonly walk: WalkReport | null;
  /** What this opening did to a lost or damaged catalog; null when it was sound. */
  readonly rebuilt: Rebuild | null;
  /** What does not hold here of the promise, in a sentence each. */
  readonly caveats: readonly string[];
}

/** Events of the store. */
export interface StorageEvents {
  /**
   * The store has failed for good: nothing is taken in or delivered any more, and everything is refused. What was
   * acknowledged is safe. Close, and open it again, or end the process and have it started anew.
   */
  readonly lost: { readonly error: Error };
  /** A whole study was evicted: every destination has verified it. */
  readonly evicted: EvictedStudy;
  /** Instances are refused for want of room, with why nothing could be evicted; or are taken again, with null. */
  readonly full: { readonly reason: string | null };
  /** The catalog was lost or damaged, and this opening has rebuilt it; the walk takes up what only files tell of. */
  readonly rebuilt: Rebuild;
  /** The walk that follows every opening has ended. */
  readonly walked: WalkReport;
  /** The bytes of a version are not what they were. They were set aside, and it is missing from now on. */
  readonly damaged: { readonly arrivalId: string; readonly blobRef: string };
}

export interface KeeperOptions {
  readonly store: OpenStore;
  readonly clock: Clock;
  readonly policy: RetentionPolicy;
  readonly checksPerSecond: number;
  readonly snapshotIntervalMs: number;
  readonly isAnyDown: () => boolean;
  readonly isPlacing: (arrivalId: string) => boolean;
  readonly emit: <Name extends keyof StorageEvents>(name: Name, detail: StorageEvents[Name]) => void;
  readonly onFault: (error: unknown) => void;
}

/** Looks after an open store in the background: walks through it once, keeps room in it, and copies its catalog. */
export class StoreKeeper {
  readonly evictor: Evictor;
  readonly #options: KeeperOptions;
  readonly #abort = new AbortController();
  #walk: WalkReport | null = null;
  #working: Promise<unknown> = Promise.resolve();
  #snapshot: Promise<unknown> = Promise.resolve();
  #fullLoggedAt = Number.NEGATIVE_INFINITY;
  /** One after another: nothing is set aside that came in the place of what was. */
  #examining: Promise<unknown> = Promise.resolve();
  #cancelSnapshot = () => {};
  #cancelWalk = () => {};

  constructor(options: KeeperOptions) {
    this.#options = options;
    const { store, clock, policy, isAnyDown, emit, onFault } = options;
    this.evictor = new Evictor({
      catalog: store.catalog,
      blobs: store.blobs,
      clock,
      policy,
      isAnyDown,
      onEvicted: (study) => emit('evicted', study),
      onFull: (reason) => {
        emit('full', { reason });
        const at = clock.now();
        // Room comes and goes with each delivery: the log is to tell of the night, not of every image.
        if (reason === null || at - this.#fullLoggedAt < FULL_LOG_MS) return;
        this.#fullLoggedAt = at;
        store.catalog.appendLog({ at, kind: 'full', detail: { reason } }).catch(onFault);
      },
      onFault,
    });
  }

  /** Begins; listeners that are added in the same turn hear everything. */
  start(): void {
    const { store, clock } = this.#options;
    const { rebuilt } = store;
    // Later: whoever opens the spillway has no listeners on it yet.
    if (rebuilt) clock.schedule(0, () => this.#options.emit('rebuilt', rebuilt));
    store.lost?.then((error) => this.#options.emit('lost', { error })).catch(this.#options.onFault);
    this.#working = this.#walkThrough();
    this.#scheduleSnapshot(Math.min(FIRST_SNAPSHOT_MS, this.#options.snapshotIntervalMs));
  }

  async status(): Promise<StorageStatus> {
    const { catalog, blobs, rebuilt = null, caveats = [] } = this.#options.store;
    const [held, room] = await Promise.all([catalog.held(), blobs.room()]);
    return { ...held, room, fullBecause: this.evictor.fullBecause, walk: this.#walk, rebuilt, caveats };
  }

  verify(options: VerifyOptions): Promise<VerifyReport> {
    const { store, clock } = this.#options;
    const signal = AbortSignal.any([this.#abort.signal, ...(options.signal === undefined ? [] : [options.signal])]);
    return verifyStore(
      { catalog: store.catalog, blobs: store.blobs, clock, onDamaged: (version) => this.damaged(version) },
      { ...options, signal },
    );
  }

  /**
   * The bytes of a version are gone or not what they were: nobody is to read them as what they are not.
   *
   * @param isReplaced - Good ones are at hand: what cannot be read makes room for them too.
   */
  damaged(placed: PlacedBytes, isReplaced = false): Promise<boolean> {
    const turn = this.#examining.then(() => this.#examine(placed, isReplaced));
    this.#examining = turn.catch(() => {});
    return turn;
  }

  /** Returns whether they are. Whoever says so has read them a while ago: sound ones may have come in their place. */
  async #examine(placed: PlacedBytes, isReplaced: boolean): Promise<boolean> {
    const { arrivalId, blobRef, bytes } = placed;
    const { store, clock, emit } = this.#options;
    const found = await (isReplaced ? examineForReplacement : examine)(store.blobs, placed);
    if (found === 'sound') return false;
    if (found === 'damaged') await store.blobs.setAside(blobRef);
    const at = clock.now();
    const wasHeld = await store.catalog.markMissing({ arrivalId, at });
    if (wasHeld) store.blobs.countHeld?.(-bytes);
    if (found === 'missing') return wasHeld;
    await store.catalog.appendLog({ at, kind: 'damaged', detail: { arrivalId } });
    emit('damaged', { arrivalId, blobRef });
    return true;
  }

  async close(): Promise<void> {
    this.#cancelSnapshot();
    this.#cancelWalk();
    this.#abort.abort(new SpillwayError('SPILLWAY_CLOSED', 'The spillway was closed.'));
    await this.#working;
    await this.#snapshot;
    await this.#examining;
    await this.evictor.close();
  }

  async #walkThrough(): Promise<void> {
    const { store, clock, checksPerSecond, isPlacing, emit, onFault } = this.#options;
    const { signal } = this.#abort;
    try {
      await this.evictor.resume();
      this.#walk = await walk({
        catalog: store.catalog,
        blobs: store.blobs,
        clock,
        perSecond: checksPerSecond,
        signal,
        isPlacing,
        onDamaged: (placed) => this.damaged(placed),
        onProgress: (report) => {
          this.#walk = report;
        },
      });
      this.evictor.allow();
      emit('walked', this.#walk);
    } catch (error) {
      if (signal.aborted) return;
      if (this.#walk !== null) this.#walk = { ...this.#walk, phase: 'failed' };
      onFault(error);
      this.#cancelWalk = clock.schedule(WALK_AGAIN_MS, () => {
        this.#working = this.#walkThrough();
      });
    }
  }

  #scheduleSnapshot(delayMs: number): void {
    const { store, clock, snapshotIntervalMs, onFault } = this.#options;
    if (store.snapshot === undefined) return;
    this.#cancelSnapshot = clock.schedule(delayMs, () => {
      this.#snapshot = Promise.resolve(store.snapshot?.())
        .catch(onFault)
        .finally(() => {
          if (!this.#abort.signal.aborted) this.#scheduleSnapshot(snapshotIntervalMs);
        });
    });
  }
}
