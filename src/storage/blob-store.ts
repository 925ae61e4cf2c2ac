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
   * Makes what was written durable and readable under the reference returned: contents, name and every new directory
   * above it. Never overwrites. The blob stays known as in flight until `release`.
   */
  place(placement: BlobPlacement): Promise<string>;

  /** The catalog has committed the blob: it is no longer in flight. */
  release(): Promise<void>;

  /** Nothing of the blob stays, placed or not. Idempotent. */
  abort(): Promise<void>;
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

  /** Removes the bytes for good. A reference without bytes is no error. */
  remove(ref: string): Promise<void>;

  /**
   * Called once after opening, before anything is created: ends what was in flight when the process last ended. A
   * placed blob whose arrival the catalog knows is kept, everything else in flight is removed whole. It examines
   * nothing but what was in flight. Returns how many were removed.
   */
  recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number>;
}
