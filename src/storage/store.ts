import type { BlobStore } from './blob-store.ts';
import type { Catalog } from './catalog.ts';

/** An opened catalog and blob store that belong together. */
export interface OpenStore {
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
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
