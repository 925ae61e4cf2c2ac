import { formatBytes } from '../../domain/units.ts';
import { SpillwayError } from '../../errors.ts';
import type { BlobRoom } from '../blob-store.ts';
import type { FileSystem } from './file-system.ts';

/** Written by all instances together between two looks at the room. */
const LOOK_EVERY_BYTES = 16 * 1024 * 1024;

/** What bounds a directory of files. */
export interface RoomLimits {
  /** All files together, in bytes, the catalog's own not counted. @default no limit */
  readonly maxBytes?: number | undefined;
  /** What must stay free on the file system, in bytes. @default 0 */
  readonly minFreeBytes?: number | undefined;
}

/**
 * Refuses instances while there is still room, so that there is some for the catalog: what was taken must be delivered,
 * and each delivery recorded, on a disk that takes no more.
 */
export class Room {
  readonly #root: string;
  readonly #fileSystem: FileSystem;
  readonly #maxBytes: number;
  readonly #minFreeBytes: number;
  #used = 0;
  #unlooked = 0;

  constructor(root: string, fileSystem: FileSystem, limits: RoomLimits) {
    this.#root = root;
    this.#fileSystem = fileSystem;
    this.#maxBytes = limits.maxBytes ?? Number.POSITIVE_INFINITY;
    this.#minFreeBytes = limits.minFreeBytes ?? 0;
  }

  /** Files of so many bytes were written; less than 0 for those that are gone. */
  add(bytes: number): void {
    this.#used += bytes;
    this.#unlooked += Math.max(0, bytes);
  }

  async look(): Promise<BlobRoom> {
    const byMax = Math.max(0, this.#maxBytes - this.#used);
    const { free, total } = await this.#fileSystem.space(this.#root);
    const byFree = Math.max(0, free - this.#minFreeBytes);
    return byFree < byMax
      ? { bytes: byFree, ofBytes: total, limitedBy: 'minFreeBytes' }
      : { bytes: byMax, ofBytes: this.#maxBytes, limitedBy: 'maxBytes' };
  }

  /** @throws SpillwayError `SPILLWAY_STORE_FULL` */
  async assert(): Promise<void> {
    this.#unlooked = 0;
    const { bytes, limitedBy } = await this.look();
    if (bytes > 0) return;
    const limit =
      limitedBy === 'maxBytes'
        ? `at most ${formatBytes(this.#maxBytes)} of images (maxBytes), got ${formatBytes(this.#used)}`
        : `${formatBytes(this.#minFreeBytes)} to stay free on the store's file system (minFreeBytes), got less`;
    throw new SpillwayError(
      'SPILLWAY_STORE_FULL',
      `Expected ${limit}. What was accepted is kept and delivered meanwhile; send this again later.`,
    );
  }

  /** Whether it is time to look again. */
  isDue(): boolean {
    return this.#unlooked >= LOOK_EVERY_BYTES;
  }
}
