import { SpillwayError } from '../../errors.ts';
import type { OpenStore, Store } from '../store.ts';
import { MemoryBlobStore } from './memory-blob-store.ts';
import { MemoryCatalog } from './memory-catalog.ts';
import { MemoryTables } from './memory-tables.ts';

/** How much `memoryStore` holds. */
export interface MemoryStoreOptions {
  /** All instances together, in bytes; more evicts what may go, or is refused. @default no limit */
  readonly maxBytes?: number | undefined;
}

/**
 * A store in memory, for tests and trials. **It does not survive the process**: everything accepted is lost when the
 * process ends, and memory grows with every instance. Use `fileStore()` wherever a study matters.
 *
 * Its contents live in the object returned: closing and opening it again gives the same contents. Opening it while it
 * is open fails with `SPILLWAY_STORE_LOCKED`.
 */
export function memoryStore(options: MemoryStoreOptions = {}): Store {
  const tables = new MemoryTables();
  const blobs = new MemoryBlobStore(options.maxBytes);
  let isOpen = false;
  return {
    async open(): Promise<OpenStore> {
      if (isOpen) {
        throw new SpillwayError('SPILLWAY_STORE_LOCKED', 'This memory store is open already. Close it first.');
      }
      isOpen = true;
      const catalog = new MemoryCatalog(tables);
      let isClosed = false;
      return {
        catalog,
        blobs,
        async close() {
          if (isClosed) return;
          isClosed = true;
          await catalog.close();
          isOpen = false;
        },
      };
    },
  };
}
