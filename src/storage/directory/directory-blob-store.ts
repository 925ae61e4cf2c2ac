import { createReadStream } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rmdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { readAndDigest } from '../../dicom/data-set-digest.ts';
import { SpillwayError } from '../../errors.ts';
import type { BlobPlacement, BlobStore, BlobWriter } from '../blob-store.ts';
import { arrivalIdOf, blobRefOf, safeName } from './blob-names.ts';
import { DirectorySync, syncDirectory } from './directory-sync.ts';
import { storeError, systemCode } from './file-errors.ts';

const FILE_MODE = 0o600;
const INCOMING = 'incoming';
const READ_CHUNK_BYTES = 256 * 1024;
/** Link is not to be had there: FAT, some network and overlay file systems. */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Plain Part 10 files in a directory, readable by any DICOM tool without spillway. See docs/storage-format.md.
 *
 * A blob in flight is a file in `incoming/`. Placing it links it to its name (which never overwrites) and leaves the
 * first name until the catalog has committed: so after a crash, what was in flight is found by looking there only.
 */
export class DirectoryBlobStore implements BlobStore {
  readonly #root: string;
  readonly #incoming: string;
  readonly #directories: DirectorySync;
  /** Files in `incoming/` that are open for writing. */
  readonly #writing = new Set<FileHandle>();
  #nextName = 0;

  private constructor(root: string) {
    this.#root = root;
    this.#incoming = join(root, INCOMING);
    this.#directories = new DirectorySync(root);
  }

  /** @param root - A directory that exists durably, and that no other process uses. */
  static async open(root: string): Promise<DirectoryBlobStore> {
    const store = new DirectoryBlobStore(resolve(root));
    for (const name of [INCOMING, 'studies']) {
      await mkdir(join(store.#root, name), { mode: 0o700, recursive: true });
    }
    await syncDirectory(store.#root);
    return store;
  }

  async create(): Promise<BlobWriter> {
    this.#nextName += 1;
    const path = join(this.#incoming, `${process.pid}-${Date.now().toString(36)}-${this.#nextName}.part`);
    try {
      const file = await open(path, 'wx', FILE_MODE);
      this.#writing.add(file);
      return new DirectoryBlobWriter(this.#root, this.#directories, path, file, () => this.#writing.delete(file));
    } catch (error) {
      throw storeError('create a file in incoming/', error);
    }
  }

  async *read(ref: string): AsyncGenerator<Uint8Array> {
    const stream = createReadStream(this.#pathOf(ref), { highWaterMark: READ_CHUNK_BYTES });
    try {
      for await (const chunk of stream) yield chunk as Buffer;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storeError(`read ${ref}`, error);
      throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the file ${ref} in the store, got none.`, {
        cause: error,
      });
    } finally {
      stream.destroy();
    }
  }

  async has(ref: string): Promise<boolean> {
    try {
      return (await stat(this.#pathOf(ref))).isFile();
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw storeError(`look for ${ref}`, error);
    }
  }

  async remove(ref: string): Promise<void> {
    const path = this.#pathOf(ref);
    try {
      await unlinkIfThere(path);
      await this.#directories.sync(dirname(path));
      await this.#pruneEmpty(dirname(path));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw storeError(`remove ${ref}`, error);
    }
  }

  async recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number> {
    let removed = 0;
    for (const name of await readdir(this.#incoming)) {
      const path = join(this.#incoming, name);
      // What cannot be read was not acknowledged either, and must not keep the store from opening.
      const placed = await this.#placedNameOf(path).catch(() => undefined);
      const arrivalId = placed === undefined ? undefined : arrivalIdOf(basename(placed));
      const known = arrivalId !== undefined && (await isKnown(arrivalId));
      if (!known) {
        removed += 1;
        if (placed !== undefined) await unlinkIfThere(placed);
      }
      await unlinkIfThere(path);
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
    const { ino, nlink } = await stat(path);
    if (nlink < 2) return undefined;
    const { header } = await readAndDigest(createReadStream(path));
    const { studyInstanceUid, seriesInstanceUid } = header.identity;
    const directory = join(this.#root, 'studies', safeName(studyInstanceUid), safeName(seriesInstanceUid));
    for (const name of await readdir(directory)) {
      const candidate = join(directory, name);
      if ((await stat(candidate)).ino === ino) return candidate;
    }
    return undefined;
  }

  async #pruneEmpty(directory: string): Promise<void> {
    const studies = join(this.#root, 'studies');
    for (let at = directory; at !== studies && at.startsWith(studies + sep); at = dirname(at)) {
      this.#directories.forget(at);
      try {
        await rmdir(at);
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

class DirectoryBlobWriter implements BlobWriter {
  readonly #root: string;
  readonly #directories: DirectorySync;
  readonly #incoming: string;
  readonly #onClosed: () => void;
  #file: FileHandle | undefined;
  #placed: string | undefined;
  /** The incoming name is still there. */
  #traced = true;
  #bytes = 0;

  constructor(root: string, directories: DirectorySync, incoming: string, file: FileHandle, onClosed: () => void) {
    this.#onClosed = onClosed;
    this.#root = root;
    this.#directories = directories;
    this.#incoming = incoming;
    this.#file = file;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#file === undefined) throw new Error('write after place or abort');
    let offset = 0;
    while (offset < chunk.byteLength) {
      const { bytesWritten } = await this.#file
        .write(chunk, offset, chunk.byteLength - offset)
        .catch((error) => Promise.reject(storeError('write to incoming/', error)));
      offset += bytesWritten;
    }
    this.#bytes += chunk.byteLength;
  }

  async place(placement: BlobPlacement): Promise<string> {
    const file = this.#file;
    if (file === undefined) throw new Error('place after place or abort');
    const ref = blobRefOf(placement);
    const target = join(this.#root, ref);
    try {
      const { size } = await file.stat();
      if (size !== this.#bytes) throw new Error(`${this.#bytes} bytes were written, the file has ${size}`);
      // A file whose fsync failed is never fsynced again: the kernel may have dropped the pages and says so only once.
      await file.sync();
      this.#file = undefined;
      await file.close();
      this.#onClosed();
      await this.#directories.ensure(dirname(target));
      await this.#linkTo(target).catch(async (error) => {
        if (systemCode(error) !== 'ENOENT') throw error;
        // The directory was empty for a moment and was pruned: make it anew.
        for (let at = dirname(target); at !== this.#root; at = dirname(at)) this.#directories.forget(at);
        await this.#directories.ensure(dirname(target));
        await this.#linkTo(target);
      });
      await this.#directories.sync(dirname(target));
      return ref;
    } catch (error) {
      throw storeError(`make ${ref} durable`, error);
    }
  }

  async #linkTo(target: string): Promise<void> {
    try {
      await link(this.#incoming, target);
      this.#placed = target;
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined || !NO_HARD_LINKS.has(code)) throw error;
      // The name is unique by its arrival id, so that renaming overwrites nothing either.
      await rename(this.#incoming, target);
      this.#placed = target;
      this.#traced = false;
    }
  }

  async release(): Promise<void> {
    if (!this.#traced) return;
    this.#traced = false;
    await unlinkIfThere(this.#incoming);
  }

  async abort(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
    this.#onClosed();
    try {
      if (this.#placed !== undefined) await unlinkIfThere(this.#placed);
      this.#placed = undefined;
      if (this.#traced) await unlinkIfThere(this.#incoming);
      this.#traced = false;
    } catch (error) {
      throw storeError('remove an instance that was refused', error);
    }
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (systemCode(error) !== 'ENOENT') throw error;
  });
}
