import { dirname } from 'node:path';
import { LRUCache } from 'lru-cache';
import { systemCode } from './file-errors.ts';
import type { FileSystem } from './file-system.ts';

/** Directories remembered as durable; a forgotten one costs one more sync. */
const REMEMBERED_DIRECTORIES = 4096;

/**
 * Makes directories and their entries durable. A sync asked for while one is under way on the same directory waits for
 * the next one, and all that wait share it: a sync that had begun earlier says nothing of a later entry.
 */
export class DirectorySync {
  readonly #root: string;
  readonly #fileSystem: FileSystem;
  readonly #running = new Map<string, { current: Promise<void>; next: Promise<void> | undefined }>();
  // A directory that exists durably up to the root need not be made again; thousands of series come and go.
  readonly #durable: LRUCache<string, true>;
  readonly #making = new Map<string, Promise<void>>();

  /** @param root - Exists durably. */
  constructor(root: string, fileSystem: FileSystem, rememberedDirectories = REMEMBERED_DIRECTORIES) {
    this.#root = root;
    this.#fileSystem = fileSystem;
    this.#durable = new LRUCache({ max: rememberedDirectories });
  }

  /** Makes `directory` and all above it up to the root, durably. */
  async ensure(directory: string): Promise<void> {
    if (directory === this.#root || this.#durable.get(directory)) return;
    if (directory === dirname(directory)) throw new Error(`${directory} is outside ${this.#root}`);
    let making = this.#making.get(directory);
    if (making === undefined) {
      making = this.#make(directory).finally(() => this.#making.delete(directory));
      this.#making.set(directory, making);
    }
    await making;
  }

  async #make(directory: string): Promise<void> {
    const parent = dirname(directory);
    await this.ensure(parent);
    await this.#fileSystem.makeDirectory(directory).catch((error) => {
      if (systemCode(error) !== 'EEXIST') throw error;
    });
    // Also when it existed: who made it may not have lived to sync its parent.
    await this.sync(parent);
    this.#durable.set(directory, true);
  }

  /** A directory that is gone must be made anew. */
  forget(directory: string): void {
    this.#durable.delete(directory);
  }

  /** Resolves when every entry that `directory` had when this was called is durable. */
  sync(directory: string): Promise<void> {
    const running = this.#running.get(directory);
    if (running === undefined) return this.#start(directory);
    running.next ??= running.current.catch(() => {}).then(() => this.#start(directory));
    return running.next;
  }

  #start(directory: string): Promise<void> {
    const current = this.#fileSystem.syncDirectory(directory);
    const entry = { current, next: undefined };
    this.#running.set(directory, entry);
    const done = () => {
      if (this.#running.get(directory) === entry && entry.next === undefined) this.#running.delete(directory);
    };
    current.then(done, done);
    return current;
  }
}
