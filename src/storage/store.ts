import type { BlobStore } from './blob-store.ts';
import type { Catalog } from './catalog.ts';

/** What opening did to a catalog that was lost or damaged. Paths are under the store's directory. */
export interface Rebuild {
  /** The snapshot that took its place; null where there was none, so that only the files tell. */
  readonly snapshot: string | null;
  /** Where the damaged one is; null where there was none. */
  readonly damaged: string | null;
}

/** An opened catalog and blob store that belong together. */
export interface OpenStore {
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
  /** Null, or absent, when the catalog was sound. */
  readonly rebuilt?: Rebuild | null;
  /** Resolves when the store has failed for good while it was open, so that only opening it again helps; absent where it cannot. */
  readonly lost?: Promise<Error>;
  /** What does not hold here of the promise, in a sentence each. */
  readonly caveats?: readonly string[];
  /** Copies the catalog, durably, unless nothing has changed since the last time; absent where others see to that. */
  snapshot?(): Promise<boolean>;
  /** Waits for what is under way, then lets go of the store. Idempotent. */
  close(): Promise<void>;
}

/**
 * A store that can be opened: a preset such as `memoryStore()` or `fileStore()`, or any pair of a `Catalog` and a
 * `BlobStore`. At most one opening at a time; a second one fails at once with `SPILLWAY_STORE_LOCKED`.
 */
export interface Store {
  open(): Promise<OpenStore>;
}
