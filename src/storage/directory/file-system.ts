import * as callbacks from 'node:fs';
import { closeSync, fstatSync, openSync, statfsSync } from 'node:fs';
import { link, mkdir, readdir, rename, rmdir, stat, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { handOver } from '../../domain/owned-bytes.ts';

/** A file that is being written. Calls must not overlap. */
export interface WritableFile {
  /** Appends a part of `chunk`; returns how many bytes, which may be fewer than were given. */
  write(chunk: Uint8Array, offset: number): Promise<number>;
  /** Its length in bytes. */
  size(): Promise<number>;
  /** Resolves when its contents survive a loss of power. A file whose sync failed must be abandoned. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** What a file system says of a path. */
export interface FileStatus {
  readonly isFile: boolean;
  /** Its length. */
  readonly bytes: number;
  /** Names that a file has under one file system share it. */
  readonly inode: number;
  readonly links: number;
}

/**
 * What the directory store asks of a file system: every call goes through here, so that faults can be put in, and a
 * model take its place that forgets what was not synced. Errors are system errors with a `code`, such as `ENOENT`.
 */
export interface FileSystem {
  /**
   * False where the system syncs no directories (Windows): `syncDirectory` does nothing there, and names may be lost with
   * the power, though never the contents of a file.
   */
  readonly canSyncDirectories: boolean;
  /** Creates a file that must not be there (`EEXIST`), mode 0600. */
  create(path: string): Promise<WritableFile>;
  /** The bytes of a file in chunks of at most `chunkBytes`. Ending early frees everything. */
  read(path: string, chunkBytes: number): AsyncIterable<Uint8Array>;
  /** Makes one directory, mode 0700; `EEXIST` when it is there. */
  makeDirectory(path: string): Promise<void>;
  /** Resolves when the names in a directory survive a loss of power. */
  syncDirectory(path: string): Promise<void>;
  /** Gives a file a second name, never overwriting (`EEXIST`). */
  link(path: string, name: string): Promise<void>;
  rename(path: string, name: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Removes an empty directory (`ENOTEMPTY`). */
  removeDirectory(path: string): Promise<void>;
  list(path: string): Promise<readonly string[]>;
  status(path: string): Promise<FileStatus>;
  /** Bytes that may still be written to the file system of `path`, and all that it has. */
  space(path: string): Promise<{ readonly free: number; readonly total: number }>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

const canSyncDirectories = process.platform !== 'win32';

const open = promisify(callbacks.open);
const read = promisify(callbacks.read);
const write = promisify(callbacks.write);
const fsync = promisify(callbacks.fsync);

/**
 * The real one. What the system answers from memory (length, free space, a descriptor of a directory just written to, its
 * end) is asked at once: in the thread pool it would wait behind the syncs of other files, which is most of the time that
 * an instance takes.
 */
export const nodeFileSystem: FileSystem = {
  canSyncDirectories,
  create: async (path) => new NodeFile(await open(path, 'wx', FILE_MODE)),
  read: async function* (path, chunkBytes) {
    const descriptor = await open(path, 'r');
    try {
      // No more than the file has: a stream takes a whole chunk for each small file, which memory does not get back.
      const { size } = fstatSync(descriptor);
      for (let position = 0; position < size; ) {
        const chunk = handOver(Buffer.allocUnsafeSlow(Math.min(chunkBytes, size - position)));
        const { bytesRead } = await read(descriptor, chunk, 0, chunk.byteLength, position);
        if (bytesRead === 0) return;
        position += bytesRead;
        yield chunk.subarray(0, bytesRead);
      }
    } finally {
      closeSync(descriptor);
    }
  },
  makeDirectory: async (path) => {
    await mkdir(path, { mode: DIRECTORY_MODE });
  },
  syncDirectory: async (path) => {
    if (!canSyncDirectories) return;
    const descriptor = openSync(path, 'r');
    try {
      await fsync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  },
  link,
  rename,
  unlink,
  removeDirectory: rmdir,
  list: (path) => readdir(path),
  status: async (path) => {
    const status = await stat(path);
    return { isFile: status.isFile(), bytes: status.size, inode: status.ino, links: status.nlink };
  },
  space: async (path) => {
    const { bavail, blocks, bsize } = statfsSync(path);
    return { free: bavail * bsize, total: blocks * bsize };
  },
};

class NodeFile implements WritableFile {
  #descriptor: number | undefined;
  /** What the thread pool does with the descriptor. */
  #underWay: Promise<unknown> = Promise.resolve();

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  async write(chunk: Uint8Array, offset: number): Promise<number> {
    const { bytesWritten } = await this.#track(write(this.#open(), chunk, offset, chunk.byteLength - offset, null));
    return bytesWritten;
  }

  async size(): Promise<number> {
    return fstatSync(this.#open()).size;
  }

  async sync(): Promise<void> {
    await this.#track(fsync(this.#open()));
  }

  /** Not before what is under way has ended, and once: the number of a closed descriptor is soon another file's. */
  async close(): Promise<void> {
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    if (descriptor === undefined) return;
    await this.#underWay.catch(() => {});
    closeSync(descriptor);
  }

  #open(): number {
    if (this.#descriptor === undefined) throw new Error('the file is closed');
    return this.#descriptor;
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#underWay = work;
    return work;
  }
}
