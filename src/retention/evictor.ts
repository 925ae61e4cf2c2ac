import type { Clock } from '../domain/clock.ts';
import { formatBytes } from '../domain/units.ts';
import { SpillwayError } from '../errors.ts';
import type { BlobRoom, BlobStore, BlobWriter } from '../storage/blob-store.ts';
import type { Catalog, Eviction, EvictionBlock, EvictionTerms, StudyRecord } from '../storage/catalog.ts';
import { headroomBytes, type RetentionPolicy, type Rung, rungs } from './policy.ts';
import { RoomMakingWriter } from './room-making-writer.ts';

/** Studies looked at together when room is made. */
const CANDIDATES = 256;
const CHECK_EVERY_MS = 1_000;
/** At an instance for which room was made that others have taken. */
const ATTEMPTS = 8;
/** So long a refusal is repeated without looking again: many senders knock at a full store. */
const REFUSAL_MS = 1_000;
const CHECK_EVERY_BYTES = 16 * 1024 * 1024;
const AGE_CHECK_MS = 600_000;
/** So long nobody asks again what may be evicted where nothing might. */
const IN_VAIN_MS = 10_000;

/** A whole study that was evicted: every destination has verified it. */
export interface EvictedStudy {
  readonly studyInstanceUid: string;
  readonly instances: number;
  readonly bytes: number;
  /**
   * `past-window`: room was short, and it was past `keepMs`. `inside-window`: new instances would have been refused, or
   * room was short while every destination was up. `age`: past `maxAgeMs`.
   */
  readonly because: Rung | 'age';
}

export interface EvictorOptions {
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly policy: RetentionPolicy;
  readonly isAnyDown: () => boolean;
  readonly onEvicted: (study: EvictedStudy) => void;
  /** Refusals begin, with why nothing could be evicted; or they have ended, with null. */
  readonly onFull: (reason: string | null) => void;
  readonly onFault: (error: unknown) => void;
}

/** Keeps room for new instances: evicts whole studies that every destination has verified, and says why it cannot. */
export class Evictor {
  readonly #options: EvictorOptions;
  /** Evictions under way, by study. */
  readonly #running = new Map<string, Promise<unknown>>();
  /** What a crash has broken off is being gone on with. */
  #resuming: Promise<void> = Promise.resolve();
  /** One has failed after it had begun: its rows say that it goes, and its files may still be there. */
  #hasUnfinished = false;
  #turn: Promise<unknown> = Promise.resolve();
  #isAllowed = false;
  #isClosed = false;
  #fullBecause: string | null = null;
  #refusedAt = Number.NEGATIVE_INFINITY;
  /** Counts what may have made more evictable. */
  #changes = 0;
  /** When nothing might go by each rung. */
  readonly #inVain = new Map<EvictedStudy['because'], number>();
  #evictions = 0;
  #uncheckedBytes = 0;
  #checkedAt = Number.NEGATIVE_INFINITY;
  #cancelAgeCheck = () => {};

  constructor(options: EvictorOptions) {
    this.#options = options;
  }

  /** Goes on with what a crash has broken off. */
  resume(): Promise<void> {
    const { catalog, onFault } = this.#options;
    const run = async () => {
      for (const eviction of await catalog.evictions({ limit: Number.MAX_SAFE_INTEGER })) {
        // One that fails is tried again before the next eviction, and keeps nobody else waiting.
        await this.#finish(eviction).catch(onFault);
      }
    };
    this.#resuming = run();
    return this.#resuming;
  }

  /** The store was walked through: what is counted is there, and may be evicted. */
  allow(): void {
    this.#isAllowed = true;
    this.#checkAge();
    this.taken(CHECK_EVERY_BYTES);
  }

  /** Why nothing could be evicted when an instance was refused last; null while instances are taken. */
  get fullBecause(): string | null {
    return this.#fullBecause;
  }

  async create(expectedBytes = 0): Promise<BlobWriter> {
    const { blobs } = this.#options;
    if (expectedBytes > CHECK_EVERY_BYTES && (await blobs.room()).bytes < expectedBytes) {
      await this.#inTurn(() => this.#makeRoomFor(expectedBytes));
    }
    const before = this.#evictions;
    const writer = await blobs
      .create()
      .catch((error) => this.#inTurn(() => this.#createInRoomMade(expectedBytes, error, before)));
    this.#setFull(null);
    return new RoomMakingWriter(writer, {
      keepAhead: (bytes) => this.#keepAhead(bytes),
      explain: (error) => this.#explain(error),
    });
  }

  taken(bytes: number): void {
    this.#uncheckedBytes += bytes;
    const now = this.#options.clock.now();
    const isDue = this.#uncheckedBytes >= CHECK_EVERY_BYTES || Math.abs(now - this.#checkedAt) >= CHECK_EVERY_MS;
    if (!isDue || !this.#isAllowed || this.#isClosed) return;
    this.#uncheckedBytes = 0;
    this.#checkedAt = now;
    this.#inTurn(async () => {
      const room = await this.#options.blobs.room();
      await this.#makeRoom(headroomBytes(room), false);
    }).catch(this.#options.onFault);
  }

  async evicted(studyInstanceUid: string): Promise<void> {
    await this.#resuming.catch(() => {});
    await this.#running.get(studyInstanceUid)?.catch(() => {});
  }

  /** Waits for the eviction under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelAgeCheck();
    await this.#turn.catch(() => {});
  }

  /** Evicts until there is so much room; returns whether there is. */
  async #makeRoom(
    goalBytes: number,
    isRefusing: boolean,
    isOfUse: () => Promise<boolean> = async () => true,
  ): Promise<boolean> {
    const { blobs, clock, policy } = this.#options;
    const before = await blobs.room();
    if (!this.#isAllowed) return before.bytes >= goalBytes;
    await this.#finishFailed();
    if (!(await isOfUse())) return false;
    const isAnyDown = this.#options.isAnyDown();
    for (const rung of rungs(before, { goalBytes, isRefusing, isAnyDown })) {
      const receivedBefore = rung === 'past-window' ? clock.now() - policy.keepMs : Number.MAX_SAFE_INTEGER;
      if (await this.#evictUntil(rung, receivedBefore, (room) => room.bytes >= goalBytes)) return true;
    }
    return (await blobs.room()).bytes >= goalBytes;
  }

  /** Returns whether it is enough; false when nothing more may go. */
  async #evictUntil(
    because: EvictedStudy['because'],
    receivedBefore: number,
    isEnough: (room: BlobRoom) => boolean,
  ): Promise<boolean> {
    const { catalog, blobs, policy } = this.#options;
    const terms = { evidence: policy.evidence, receivedBefore };
    if (this.#isInVain(because)) return isEnough(await blobs.room());
    for (;;) {
      const changes = this.#changes;
      const candidates = this.#inOrder(await catalog.evictable({ ...terms, limit: CANDIDATES }));
      let evicted = 0;
      for (const { studyInstanceUid } of candidates) {
        if (this.#isClosed) return false;
        if (isEnough(await blobs.room())) return true;
        evicted += Number(await this.#evict(studyInstanceUid, terms, because));
      }
      if (evicted > 0) continue;
      if (changes === this.#changes) this.#inVain.set(because, this.#options.clock.now());
      return isEnough(await blobs.room());
    }
  }

  /** It was asked a moment ago, and nothing might go: asking looks at every study, and others wait for the catalog. */
  #isInVain(because: EvictedStudy['because']): boolean {
    const askedAt = this.#inVain.get(because);
    return askedAt !== undefined && Math.abs(this.#options.clock.now() - askedAt) < IN_VAIN_MS;
  }

  /** A destination has verified something, or was retired: more may go than a moment ago. */
  mayEvictMore(): void {
    this.#changes += 1;
    this.#inVain.clear();
  }

  async #evict(
    studyInstanceUid: string,
    terms: { readonly evidence: RetentionPolicy['evidence']; readonly receivedBefore: number },
    because: EvictedStudy['because'],
  ): Promise<boolean> {
    const { catalog, clock } = this.#options;
    // It is known to be under way before its rows can say so.
    const eviction = await this.#underWay(studyInstanceUid, async () => {
      const begun = await catalog.beginEviction({ studyInstanceUid, ...terms, at: clock.now() });
      if (begun !== null) await this.#remove(begun);
      return begun;
    });
    if (eviction === null) return false;
    const { bytes, blobRefs } = eviction;
    this.#options.onEvicted({ studyInstanceUid, instances: blobRefs.length, bytes, because });
    return true;
  }

  async #finish(eviction: Eviction): Promise<void> {
    await this.#underWay(eviction.studyInstanceUid, () => this.#remove(eviction));
  }

  async #underWay<T>(studyInstanceUid: string, run: () => Promise<T>): Promise<T> {
    const running = run().finally(() => this.#running.delete(studyInstanceUid));
    this.#running.set(studyInstanceUid, running);
    try {
      return await running;
    } catch (error) {
      this.#hasUnfinished = true;
      throw error;
    }
  }

  /** The rows say so already: the bytes go, then it is recorded that they have gone. */
  async #remove({ studyInstanceUid, blobRefs }: Eviction): Promise<void> {
    const { catalog, blobs, clock } = this.#options;
    for (const ref of blobRefs) await blobs.remove(ref);
    await catalog.endEviction({ studyInstanceUid, at: clock.now() });
    this.#evictions += 1;
  }

  /** What has failed is tried again; where it fails again, others may go all the same. */
  async #finishFailed(): Promise<void> {
    if (!this.#hasUnfinished) return;
    this.#hasUnfinished = false;
    const { catalog, onFault } = this.#options;
    for (const eviction of await catalog.evictions({ limit: CANDIDATES })) await this.#finish(eviction).catch(onFault);
  }

  #inOrder(candidates: readonly StudyRecord[]): readonly StudyRecord[] {
    const { policy, onFault } = this.#options;
    if (policy.order === null) return candidates;
    try {
      return [...candidates].sort(policy.order);
    } catch (error) {
      // The oldest go first then: a fault of the policy must not keep new instances out.
      onFault(error);
      return candidates;
    }
  }

  /** What is past its greatest age goes, whatever the room. */
  #checkAge(): void {
    const { policy, clock, onFault } = this.#options;
    if (!Number.isFinite(policy.maxAgeMs) || this.#isClosed) return;
    // A few at a time: whoever waits for room has a turn in between.
    const evictSome = async (): Promise<void> => {
      let left = CANDIDATES;
      const isEnough = () => {
        left -= 1;
        return left < 0;
      };
      const evict = () => this.#evictUntil('age', clock.now() - policy.maxAgeMs, isEnough);
      if (await this.#inTurn(evict)) await evictSome();
    };
    evictSome().catch(onFault);
    this.#cancelAgeCheck = clock.schedule(AGE_CHECK_MS, () => this.#checkAge());
  }

  /** Others that are being written may take the room that was made; each attempt makes more, or refuses. */
  async #createInRoomMade(expectedBytes: number, refusal: unknown, evictions: number): Promise<BlobWriter> {
    let error = refusal;
    let before = evictions;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (!isFull(error)) break;
      await this.#makeRoomOrRefuse(Math.max(expectedBytes, 1), error, before);
      before = this.#evictions;
      try {
        return await this.#options.blobs.create();
      } catch (again) {
        error = again;
      }
    }
    throw error;
  }

  /** A large instance is refused before all is evicted for it, and it does not fit even so. */
  async #makeRoomFor(bytes: number): Promise<void> {
    const { blobs } = this.#options;
    let evictable = 0;
    const canReach = async () => {
      evictable = await this.#evictableBytes();
      return (await blobs.room()).bytes + evictable >= bytes;
    };
    if (await this.#makeRoom(bytes, true, canReach)) return;
    throw new SpillwayError(
      'SPILLWAY_STORE_FULL',
      `Expected an instance that there is room for, got one of ${formatBytes(bytes)}, with room for ` +
        `${formatBytes((await blobs.room()).bytes)} and ${formatBytes(evictable)} that may be evicted: ` +
        `${await this.#whyNothing()}.`,
    );
  }

  async #evictableBytes(): Promise<number> {
    const blocks = await this.#options.catalog.evictionBlocks(this.#atAnyTime());
    return blocks.find(({ reason }) => reason === 'none')?.bytes ?? 0;
  }

  #atAnyTime(): EvictionTerms {
    return { evidence: this.#options.policy.evidence, receivedBefore: Number.MAX_SAFE_INTEGER };
  }

  /** An instance whose length nobody told grows: room is made ahead of it. The store itself refuses where there is none. */
  async #keepAhead(bytes: number): Promise<void> {
    if ((await this.#options.blobs.room()).bytes >= bytes || this.#isRefusing()) return;
    await this.#inTurn(() => this.#makeRoom(bytes, true)).catch(this.#options.onFault);
  }

  /** Of a refusal in mid-instance: why no room could be made. */
  async #explain(error: SpillwayError): Promise<SpillwayError> {
    // It is not for want of room that eviction could make: the store's own word stands.
    if ((await this.#options.blobs.room()).bytes > 0) return error;
    if (!this.#isRefusing() && (await this.#inTurn(() => this.#makeRoom(1, true)))) return error;
    if (!this.#isRefusing()) {
      this.#setFull(await this.#whyNothing());
      this.#refusedAt = this.#options.clock.now();
    }
    return this.#refusal(error);
  }

  #refusal(error: SpillwayError): SpillwayError {
    const message = `${error.message} Nothing could be evicted: ${this.#fullBecause}.`;
    return new SpillwayError('SPILLWAY_STORE_FULL', message, { cause: error.cause ?? error });
  }

  #isRefusing(): boolean {
    // However the clock was put.
    return this.#fullBecause !== null && Math.abs(this.#options.clock.now() - this.#refusedAt) < REFUSAL_MS;
  }

  /** @param evictions - How many there had been before it was refused. */
  async #makeRoomOrRefuse(expectedBytes: number, error: SpillwayError, evictions: number): Promise<void> {
    const room = await this.#options.blobs.room();
    const isLarge = expectedBytes > CHECK_EVERY_BYTES;
    if (room.bytes >= (isLarge ? 1 : expectedBytes)) {
      if (this.#evictions > evictions) return;
      // It is not for want of room that eviction could make: the store's own word stands.
      throw error;
    }
    if (!this.#isRefusing()) {
      if (await this.#makeRoom(isLarge ? 1 : expectedBytes, true)) return;
      this.#setFull(await this.#whyNothing());
      this.#refusedAt = this.#options.clock.now();
    }
    throw this.#refusal(error);
  }

  async #whyNothing(): Promise<string> {
    if (!this.#isAllowed) return 'the store is still being walked through after opening';
    const blocks = await this.#options.catalog.evictionBlocks(this.#atAnyTime());
    const reasons = blocks.filter(({ reason }) => reason !== 'none').map(describeBlock);
    return reasons.length === 0 ? 'nothing else is held' : reasons.join(', ');
  }

  #setFull(reason: string | null): void {
    const isChange = (reason === null) !== (this.#fullBecause === null);
    this.#fullBecause = reason;
    if (isChange) this.#options.onFull(reason);
  }

  /** One at a time: what waits finds the room that the one before has made. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run, run);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

const WORDS: Readonly<Record<EvictionBlock['reason'], string>> = {
  pending: 'wait for a destination',
  unverified: 'stand in quarantine or were discarded',
  unrouted: 'are verified at no destination',
  evidence: 'are verified by less than retention.evidence asks for',
  recent: 'were received too lately',
  none: 'may be evicted',
};

function isFull(error: unknown): error is SpillwayError {
  return error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_FULL';
}

function describeBlock({ reason, studies, bytes }: EvictionBlock): string {
  return `${studies} ${studies === 1 ? 'study' : 'studies'} (${formatBytes(bytes)}) ${WORDS[reason]}`;
}
