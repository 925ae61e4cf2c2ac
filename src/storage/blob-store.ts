import type { InstanceIdentity } from '../domain/identity.ts';

/** What a blob store needs to know to place a blob. */
export interface BlobPlacement {
  readonly identity: InstanceIdentity;
  readonly arrivalId: string;
  readonly digest: string;
}

/**
 * A blob in flight. Exactly one of `release` and `abort` ends it. Calls must not overlap.
 * After any failure only `abort` may be called.
 */
export interface BlobWriter {
  /** Appends. Resolves when the next chunk may come; the chunk must not be changed until then. */
  write(chunk: Uint8Array): Promise<void>;

  /**
   * Nothing more is written: begins to make the contents durable, so that something else can be done meanwhile. `place`
   * waits for it and says whether it failed. Only `place` or `abort` may follow.
   */
  beginSync(): void;

  /**
   * Makes what was written durable and readable under the reference returned: contents, name and every new directory
   * above it. Never overwrites. The blob stays known as in flight until `release`.
   */
  place(placement: BlobPlacement): Promise<string>;

  /** The catalog has committed the blob: it is no longer in flight. */
  release(): Promise<void>;

  /** Nothing of the blob stays, placed or not. Idempotent. */
  abort(): Promise<void>;
}

/** How much more may be written. */
export interface BlobRoom {
  /** Bytes until instances are refused; 0 when they are. Infinity where nothing limits them. */
  readonly bytes: number;
  /** Of how many bytes that is a part: what a limit allows, or the whole file system. Infinity where nothing limits them. */
  readonly ofBytes: number;
  /** What comes first. */
  readonly limitedBy: 'maxBytes' | 'minFreeBytes' | null;
}

/** A blob as a walk finds it. */
export interface StoredBlob {
  readonly ref: string;
  /** As it was placed under; null where its name does not tell. */
  readonly arrivalId: string | null;
  /** As it was placed with; null where its name does not tell. */
  readonly digest: string | null;
  readonly bytes: number;
  /** It could not be looked at, or, being a folder, into; `ref` says what. */
  readonly isUnreadable?: boolean;
}

/**
 * The bytes behind an opaque reference. Blobs are written once and never changed. Failures are `SpillwayError`s:
 * `SPILLWAY_STORE_FULL` when there was no room, `SPILLWAY_NOT_FOUND` for a reference without bytes, otherwise
 * `SPILLWAY_STORE_FAILED`. A failed write leaves nothing behind once `abort` has resolved.
 */
export interface BlobStore {
  create(): Promise<BlobWriter>;

  /** The bytes, in chunks of at most 1 MiB. Ending the iteration early frees everything. */
  read(ref: string): AsyncIterable<Uint8Array>;

  /** Whether there are bytes behind a reference. */
  has(ref: string): Promise<boolean>;

  /** Puts bytes that are not what they were out of the way: kept for a person, but not under this reference any more. */
  setAside(ref: string): Promise<void>;

  /** Removes the bytes for good. A reference without bytes is no error. */
  remove(ref: string): Promise<void>;

  /**
   * So many bytes are here that were not counted before; less than 0 for counted ones that have gone by another way than
   * `remove`. Absent where `room` does not rest on counting.
   */
  countHeld?(bytes: number): void;

  /** How much more may be written before `create` and `write` refuse (`SPILLWAY_STORE_FULL`). */
  room(): Promise<BlobRoom>;

  /**
   * Everything that is placed, in no order, for a walk that may take hours: what is placed or removed meanwhile may be in it
   * or not.
   */
  list(): AsyncIterable<StoredBlob>;

  /**
   * Called once after opening, before anything is created: ends what was in flight when the process last ended. A
   * placed blob whose arrival the catalog knows is kept, everything else in flight is removed whole. It examines
   * nothing but what was in flight. Returns how many were removed.
   */
  recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number>;
}
