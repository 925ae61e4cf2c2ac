import { formatBytes } from '../../domain/units.ts';
import { SpillwayError } from '../../errors.ts';
import type { FileSystem } from './file-system.ts';

/** Written by one instance between two looks at the free space. */
const LOOK_EVERY_BYTES = 16 * 1024 * 1024;

/**
 * Refuses instances while there is still room, so that there is some for the catalog: what was taken must be delivered,
 * and each delivery recorded, on a disk that takes no more.
 */
export class Room {
  readonly #root: string;
  readonly #fileSystem: FileSystem;
  readonly #minFreeBytes: number;

  constructor(root: string, fileSystem: FileSystem, minFreeBytes: number) {
    this.#root = root;
    this.#fileSystem = fileSystem;
    this.#minFreeBytes = minFreeBytes;
  }

  /** @throws SpillwayError `SPILLWAY_STORE_FULL` */
  async assert(): Promise<void> {
    if (this.#minFreeBytes === 0) return;
    const free = await this.#fileSystem.freeBytes(this.#root);
    if (free >= this.#minFreeBytes) return;
    throw new SpillwayError(
      'SPILLWAY_STORE_FULL',
      `Expected ${formatBytes(this.#minFreeBytes)} to stay free on the store's file system, got ${formatBytes(free)}. ` +
        'Free some, or lower minFreeBytes; what was accepted is delivered meanwhile.',
    );
  }

  /** Whether it is time to look again, for an instance of which so many bytes were written before and after. */
  isDue(before: number, after: number): boolean {
    return Math.floor(before / LOOK_EVERY_BYTES) !== Math.floor(after / LOOK_EVERY_BYTES);
  }
}
