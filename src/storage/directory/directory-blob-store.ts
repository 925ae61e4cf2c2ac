import { basename, dirname, join, resolve, sep } from 'node:path';
import { readAndDigest } from '../../dicom/data-set-digest.ts';
import { SpillwayError } from '../../errors.ts';
import type { BlobPlacement, BlobRoom, BlobStore, BlobWriter, StoredBlob } from '../blob-store.ts';
import { blobRefOf, placedAs, safeName } from './blob-names.ts';
import { DirectorySync } from './directory-sync.ts';
import { storeError, systemCode } from './file-errors.ts';
import type { FileStatus, FileSystem, WritableFile } from './file-system.ts';
import { Room, type RoomLimits } from './room.ts';

const INCOMING = 'incoming';
const DAMAGED = 'damaged';
/** Larger ones are read no faster, and pile up before the garbage collector hears of them. */
const READ_CHUNK_BYTES = 1024 * 1024;
/** Link is not to be had there: FAT, some network and overlay file systems. */
export const NO_HARD_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Plain Part 10 files in a directory, readable by any DICOM tool without spillway. See docs/storage-format.md.
 *
 * A blob in flight is a file in `incoming/`. Placing it links it to its name (which never overwrites) and leaves the
 * first name until the catalog has committed: so after a crash, what was in flight is found by looking there only.
 */
export class DirectoryBlobStore implements BlobStore {
  /** False where names may be lost with the power, since the system syncs no directories. */
  readonly canSyncDirectories: boolean;
  readonly #root: string;
  readonly #fileSystem: FileSystem;
  readonly #incoming: string;
  readonly #directories: DirectorySync;
  readonly #room: Room;
  /** Files in `incoming/` that are open for writing. */
  readonly #writing = new Set<WritableFile>();
  #nextName = 0;

  private constructor(root: string, fileSystem: FileSystem, limits: RoomLimits) {
    this.#root = root;
    this.#fileSystem = fileSystem;
    this.canSyncDirectories = fileSystem.canSyncDirectories;
    this.#room = new Room(root, fileSystem, limits);
    this.#incoming = join(root, INCOMING);
    this.#directories = new DirectorySync(root, fileSystem);
  }

  /**
   * @param root - A directory that exists durably, and that no other process uses.
   */
  static async open(root: string, fileSystem: FileSystem, limits: RoomLimits = {}): Promise<DirectoryBlobStore> {
    const store = new DirectoryBlobStore(resolve(root), fileSystem, limits);
    for (const name of [INCOMING, 'studies']) {
      await fileSystem.makeDirectory(join(store.#root, name)).catch((error) => {
        if (systemCode(error) !== 'EEXIST') throw error;
      });
    }
    await fileSystem.syncDirectory(store.#root);
    return store;
  }

  countHeld(bytes: number): void {
    this.#room.add(bytes);
  }

  room(): Promise<BlobRoom> {
    return this.#room.look();
  }

  async *list(): AsyncGenerator<StoredBlob> {
    for (const study of await this.#names('studies')) yield* this.#listStudy(`studies/${study}`);
  }

  /** What cannot be looked at is told of, and keeps nobody from the rest. */
  async *#listStudy(study: string): AsyncGenerator<StoredBlob> {
    const unreadable = (ref: string) => ({ ref, arrivalId: null, digest: null, bytes: 0, isUnreadable: true });
    const seriesNames = await this.#names(study).catch(() => null);
    if (seriesNames === null) yield unreadable(study);
    for (const series of seriesNames ?? []) {
      const names = await this.#names(`${study}/${series}`).catch(() => null);
      if (names === null) yield unreadable(`${study}/${series}`);
      for (const name of names ?? []) {
        const ref = `${study}/${series}/${name}`;
        const status = await this.#statusOf(ref).catch(() => undefined);
        const { arrivalId = null, digest = null } = placedAs(name) ?? {};
        if (status === undefined) yield unreadable(ref);
        else if (status?.isFile) yield { ref, arrivalId, digest, bytes: status.bytes };
      }
    }
  }

  /** None where the directory has gone meanwhile, or is a file. */
  async #names(ref: string): Promise<readonly string[]> {
    try {
      return await this.#fileSystem.list(this.#pathOf(ref));
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return [];
      throw storeError(`list ${ref}`, error);
    }
  }

  async #statusOf(ref: string): Promise<FileStatus | null> {
    try {
      return await this.#fileSystem.status(this.#pathOf(ref));
    } catch (error) {
      // A link to itself, as somebody else may have put there, is no file either.
      if (['ENOENT', 'ELOOP'].includes(systemCode(error) ?? '')) return null;
      throw storeError(`look for ${ref}`, error);
    }
  }

  async create(): Promise<BlobWriter> {
    this.#nextName += 1;
    const path = join(this.#incoming, `${process.pid}-${Date.now().toString(36)}-${this.#nextName}.part`);
    try {
      await this.#room.assert();
      const file = await this.#createIn(path);
      this.#writing.add(file);
      return new DirectoryBlobWriter({
        root: this.#root,
        fileSystem: this.#fileSystem,
        directories: this.#directories,
        room: this.#room,
        incoming: path,
        file,
        onClosed: () => this.#writing.delete(file),
      });
    } catch (error) {
      throw storeError('create a file in incoming/', error);
    }
  }

  /** Makes `incoming/` anew where somebody has removed it: nothing would be taken in until the next opening. */
  async #createIn(path: string): Promise<WritableFile> {
    try {
      return await this.#fileSystem.create(path);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
    this.#directories.forget(this.#incoming);
    await this.#directories.ensure(this.#incoming);
    return this.#fileSystem.create(path);
  }

  async *read(ref: string): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#fileSystem.read(this.#pathOf(ref), READ_CHUNK_BYTES);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storeError(`read ${ref}`, error);
      throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the file ${ref} in the store, got none.`, {
        cause: error,
      });
    }
  }

  async has(ref: string): Promise<boolean> {
    return (await this.#statusOf(ref))?.isFile === true;
  }

  async setAside(ref: string): Promise<void> {
    const path = this.#pathOf(ref);
    const directory = join(this.#root, DAMAGED);
    try {
      await this.#directories.ensure(directory);
      await this.#fileSystem.rename(path, join(directory, `${Date.now().toString(36)}-${basename(path)}`));
      await this.#directories.sync(directory);
      await this.#directories.sync(dirname(path));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storeError(`set ${ref} aside`, error);
    }
  }

  async remove(ref: string): Promise<void> {
    const path = this.#pathOf(ref);
    const bytes = (await this.#statusOf(ref))?.bytes ?? 0;
    try {
      // Of two calls that overlap one has removed it.
      if (await unlinkIfThere(this.#fileSystem, path)) this.#room.add(-bytes);
      await this.#directories.sync(dirname(path));
      await this.#pruneEmpty(dirname(path));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storeError(`remove ${ref}`, error);
    }
  }

  async recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number> {
    try {
      return await this.#recover(isKnown);
    } catch (error) {
      throw storeError('look through incoming/', error);
    }
  }

  async #recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number> {
    let removed = 0;
    for (const name of await this.#fileSystem.list(this.#incoming)) {
      const path = join(this.#incoming, name);
      // What cannot be read was not acknowledged either, and must not keep the store from opening.
      const placed = await this.#placedNameOf(path).catch(() => undefined);
      const arrivalId = placed === undefined ? undefined : placedAs(basename(placed))?.arrivalId;
      const known = arrivalId !== undefined && (await isKnown(arrivalId));
      if (!known) {
        removed += 1;
        if (placed !== undefined) await unlinkIfThere(this.#fileSystem, placed);
      }
      await unlinkIfThere(this.#fileSystem, path);
    }
    return removed;
  }

  /** Lets go of what is still being written; the next opening removes it. */
  async close(): Promise<void> {
    await Promise.all([...this.#writing].map((file) => file.close().catch(() => {})));
    this.#writing.clear();
  }

  /** The name that a file in `incoming/` has been linked to, if it has. */
  async #placedNameOf(path: string): Promise<string | undefined> {
    const { inode, links } = await this.#fileSystem.status(path);
    if (links < 2) return undefined;
    const { header } = await readAndDigest(this.#fileSystem.read(path, READ_CHUNK_BYTES));
    const { studyInstanceUid, seriesInstanceUid } = header.identity;
    const directory = join(this.#root, 'studies', safeName(studyInstanceUid), safeName(seriesInstanceUid));
    for (const name of await this.#fileSystem.list(directory)) {
      const candidate = join(directory, name);
      if ((await this.#fileSystem.status(candidate)).inode === inode) return candidate;
    }
    return undefined;
  }

  async #pruneEmpty(directory: string): Promise<void> {
    const studies = join(this.#root, 'studies');
    for (let at = directory; at !== studies && at.startsWith(studies + sep); at = dirname(at)) {
      this.#directories.forget(at);
      try {
        await this.#fileSystem.removeDirectory(at);
        // Whoever has made sure of it in between is mistaken now.
        this.#directories.forget(at);
      } catch {
        return; // not empty, or gone
      }
    }
  }

  #pathOf(ref: string): string {
    const path = resolve(this.#root, ref);
    if (path.startsWith(this.#root + sep)) return path;
    throw new SpillwayError('SPILLWAY_STORE_FAILED', `Expected a reference inside the store, got ${ref}.`);
  }
}

interface WriterOptions {
  readonly root: string;
  readonly fileSystem: FileSystem;
  readonly directories: DirectorySync;
  readonly room: Room;
  /** The file's name while it is in flight. */
  readonly incoming: string;
  readonly file: WritableFile;
  readonly onClosed: () => void;
}

class DirectoryBlobWriter implements BlobWriter {
  readonly #options: WriterOptions;
  #file: WritableFile | undefined;
  #placed: string | undefined;
  /** The incoming name is still there. */
  #traced = true;
  #bytes = 0;
  /** Contents being made durable, or it. */
  #synced: Promise<void> | undefined;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#file = options.file;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#file === undefined || this.#synced !== undefined) throw new Error('write after sync, place or abort');
    let offset = 0;
    while (offset < chunk.byteLength) {
      offset += await this.#file
        .write(chunk, offset)
        .catch((error) => Promise.reject(storeError('write to incoming/', error)));
    }
    this.#bytes += chunk.byteLength;
    this.#options.room.add(chunk.byteLength);
    if (this.#options.room.isDue()) await this.#options.room.assert();
  }

  beginSync(): void {
    if (this.#file === undefined || this.#synced !== undefined) throw new Error('sync after sync, place or abort');
    this.#synced = this.#sync(this.#file);
    // `place` tells of it; where `abort` comes instead it does not matter.
    this.#synced.catch(() => {});
  }

  async #sync(file: WritableFile): Promise<void> {
    const size = await file.size();
    if (size !== this.#bytes) throw new Error(`${this.#bytes} bytes were written, the file has ${size}`);
    // A file whose fsync failed is never fsynced again: the kernel may have dropped the pages and says so only once.
    await file.sync();
  }

  async place(placement: BlobPlacement): Promise<string> {
    const file = this.#file;
    if (file === undefined) throw new Error('place after place or abort');
    const { root, directories, onClosed } = this.#options;
    const ref = blobRefOf(placement);
    const target = join(root, ref);
    try {
      this.#synced ??= this.#sync(file);
      await this.#synced;
      this.#file = undefined;
      await file.close();
      onClosed();
      await this.#linkInto(target).catch((error) => this.#linkAgain(target, error));
      await directories.sync(dirname(target));
      return ref;
    } catch (error) {
      throw storeError(`make ${ref} durable`, error);
    }
  }

  /** The directory was empty for a moment and was pruned: it is made anew. */
  async #linkAgain(target: string, error: unknown): Promise<void> {
    if (systemCode(error) !== 'ENOENT') throw error;
    const { root, directories } = this.#options;
    for (let at = dirname(target); at !== root; at = dirname(at)) directories.forget(at);
    await this.#linkInto(target);
  }

  async #linkInto(target: string): Promise<void> {
    await this.#options.directories.ensure(dirname(target));
    await this.#linkTo(target);
  }

  async #linkTo(target: string): Promise<void> {
    const { fileSystem, incoming } = this.#options;
    try {
      await fileSystem.link(incoming, target);
      this.#placed = target;
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined || !NO_HARD_LINKS.has(code)) throw error;
      // The name is unique by its arrival id, so that renaming overwrites nothing either.
      await fileSystem.rename(incoming, target);
      this.#placed = target;
      this.#traced = false;
    }
  }

  async release(): Promise<void> {
    if (!this.#traced) return;
    this.#traced = false;
    try {
      await unlinkIfThere(this.#options.fileSystem, this.#options.incoming);
    } catch (error) {
      throw storeError('remove the trace of an instance from incoming/', error);
    }
  }

  async abort(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await this.#synced?.catch(() => {});
    await file?.close().catch(() => {});
    this.#options.onClosed();
    try {
      if (this.#placed !== undefined) await unlinkIfThere(this.#options.fileSystem, this.#placed);
      this.#placed = undefined;
      if (this.#traced) await unlinkIfThere(this.#options.fileSystem, this.#options.incoming);
      this.#traced = false;
      this.#options.room.add(-this.#bytes);
      this.#bytes = 0;
    } catch (error) {
      throw storeError('remove an instance that was refused', error);
    }
  }
}

/** Returns whether it was there. */
async function unlinkIfThere(fileSystem: FileSystem, path: string): Promise<boolean> {
  try {
    await fileSystem.unlink(path);
    return true;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return false;
  }
}
