import { createReadStream } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rmdir, stat, statfs, unlink } from 'node:fs/promises';

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
  /** Bytes that may still be written to the file system of `path`. */
  freeBytes(path: string): Promise<number>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

const canSyncDirectories = process.platform !== 'win32';

/** The real one. */
export const nodeFileSystem: FileSystem = {
  canSyncDirectories,
  create: async (path) => new NodeFile(await open(path, 'wx', FILE_MODE)),
  read: async function* (path, chunkBytes) {
    const stream = createReadStream(path, { highWaterMark: chunkBytes });
    try {
      for await (const chunk of stream) yield chunk as Buffer;
    } finally {
      stream.destroy();
    }
  },
  makeDirectory: async (path) => {
    await mkdir(path, { mode: DIRECTORY_MODE });
  },
  syncDirectory: async (path) => {
    if (!canSyncDirectories) return;
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  link,
  rename,
  unlink,
  removeDirectory: rmdir,
  list: (path) => readdir(path),
  status: async (path) => {
    const status = await stat(path);
    return { isFile: status.isFile(), inode: status.ino, links: status.nlink };
  },
  freeBytes: async (path) => {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
};

class NodeFile implements WritableFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(chunk: Uint8Array, offset: number): Promise<number> {
    const { bytesWritten } = await this.#handle.write(chunk, offset, chunk.byteLength - offset);
    return bytesWritten;
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
