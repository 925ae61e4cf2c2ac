import { open, readdir, readFile, rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SpillwayError } from '../errors.ts';
import { DirectoryBlobStore } from './directory/directory-blob-store.ts';
import { makeDurably } from './directory/durable-directory.ts';
import { storeError, systemCode } from './directory/file-errors.ts';
import { type FileSystem, nodeFileSystem } from './directory/file-system.ts';
import { assertLocalFileSystem } from './directory/network-file-system.ts';
import { openSqliteCatalog } from './sqlite/sqlite-catalog.ts';
import type { OpenStore, Store } from './store.ts';

/** A directory that holds it is a store. */
export const FORMAT_FILE = 'spillway.json';
const FORMAT_NAME = 'spillway-store';
const FORMAT_VERSION = 1;
const LOCK_FILE = 'lock';
const CATALOG_FILE = 'catalog.sqlite';
const SQLITE_BUSY = 5;
const MIN_FREE_BYTES = 256 * 1024 * 1024;

/** Where `fileStore` keeps its files. */
export interface FileStoreOptions {
  /** A directory on a local disk, made if it is not there; spillway must be alone in it. */
  readonly directory: string;
  /**
   * Instances are refused (`SPILLWAY_STORE_FULL`) while less is free on its file system, in bytes: so there is room for the
   * catalog, and what was accepted is delivered on a full disk too. @default 256 MiB
   */
  readonly minFreeBytes?: number | undefined;
  /**
   * Opens a directory on NFS, SMB and their like too, where neither the lock nor what is synced can be relied on.
   * @default false: refused (`SPILLWAY_OPTION_INVALID`) where the file system can be told, on Linux and Windows
   */
  readonly allowNetworkFileSystem?: boolean | undefined;
}

/**
 * The embedded store: an SQLite catalog (WAL, synchronous=FULL, in a worker thread) and plain Part 10 files that any
 * DICOM tool can read. What `accept()` acknowledged survives a crash of the process, the system and the power.
 * Files are 0600, directories 0700. The format is described in docs/storage-format.md.
 *
 * Opening fails with `SPILLWAY_STORE_LOCKED` when another process has the directory open, and with
 * `SPILLWAY_STORE_FORMAT` when it holds something else, or a store of an unknown version.
 */
export function fileStore(options: FileStoreOptions): Store {
  if (typeof options?.directory !== 'string' || options.directory === '') {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected fileStore({ directory }) with the path of a directory, got ${JSON.stringify(options?.directory)}.`,
    );
  }
  const { minFreeBytes = MIN_FREE_BYTES } = options;
  if (!Number.isSafeInteger(minFreeBytes) || minFreeBytes < 0) {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected fileStore({ minFreeBytes }) to be a whole number of bytes, 0 or more, got ${String(minFreeBytes)}.`,
    );
  }
  const { allowNetworkFileSystem = false } = options;
  if (typeof allowNetworkFileSystem !== 'boolean') {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected fileStore({ allowNetworkFileSystem }) to be true or false, got ${String(allowNetworkFileSystem)}.`,
    );
  }
  const directory = resolve(options.directory);
  return {
    open: async () => {
      if (!allowNetworkFileSystem) await assertLocalFileSystem(directory);
      return openFileStore(directory, nodeFileSystem, minFreeBytes);
    },
  };
}

/** @param fileSystem - What the blobs are written through; tests put faults in. */
export async function openFileStore(
  directory: string,
  fileSystem: FileSystem,
  minFreeBytes = MIN_FREE_BYTES,
): Promise<OpenStore> {
  await makeDurably(directory, nodeFileSystem).catch((error) =>
    Promise.reject(storeError(`make the directory ${directory}`, error)),
  );
  const lock = await lockDirectory(directory);
  try {
    if (await checkFormat(directory)) await assertCatalog(directory);
    const blobs = await DirectoryBlobStore.open(directory, fileSystem, minFreeBytes);
    const catalog = await openSqliteCatalog({ file: join(directory, CATALOG_FILE) });
    let closing: Promise<void> | undefined;
    const close = async () => {
      await catalog.close();
      await blobs.close();
      lock.close();
    };
    return {
      catalog,
      blobs,
      close() {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    lock.close();
    throw storeError(`open the store in ${directory}`, error);
  }
}

/**
 * A lock that the operating system holds and gives back when the process ends, however it ends: an exclusive
 * transaction on a database of its own, taken before anything else in the directory is looked at.
 */
async function lockDirectory(directory: string): Promise<DatabaseSync> {
  const file = join(directory, LOCK_FILE);
  try {
    await makeLockFile(file);
    const lock = new DatabaseSync(file);
    try {
      lock.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      return lock;
    } catch (error) {
      lock.close();
      throw error;
    }
  } catch (error) {
    if (!(error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY)) {
      throw storeError(`lock ${directory}`, error);
    }
    throw new SpillwayError(
      'SPILLWAY_STORE_LOCKED',
      `Expected to be alone in ${directory}, but another process (or this one) has the store open. ` +
        'Close it there first, or give each gateway a directory of its own.',
      { cause: error },
    );
  }
}

/**
 * Made here, since SQLite would make it readable for all. One that is there is not opened: closing any descriptor of a
 * file gives up the locks that this process has on it (POSIX).
 */
async function makeLockFile(file: string): Promise<void> {
  try {
    await (await open(file, 'wx', 0o600)).close();
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}

/** Refuses what is no store of this version, and makes an empty directory one. Returns whether it was one before. */
async function checkFormat(directory: string): Promise<boolean> {
  const path = join(directory, FORMAT_FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    const others = (await readdir(directory)).filter(
      (name) => !/^(lock(-journal)?|spillway\.json\.new|lost\+found)$/.test(name),
    );
    if (others.length > 0) {
      throw new SpillwayError(
        'SPILLWAY_STORE_FORMAT',
        `Expected an empty directory or a spillway store in ${directory}, got one that holds ${others.length} other ` +
          'entries and no spillway.json. Name a directory that spillway may have for itself.',
      );
    }
    await writeFormat(directory, path);
    return false;
  }
  const format = parseFormat(text);
  if (format?.format === FORMAT_NAME && format.version === FORMAT_VERSION) return true;
  throw new SpillwayError(
    'SPILLWAY_STORE_FORMAT',
    `Expected ${path} to name ${FORMAT_NAME} version ${FORMAT_VERSION}, got ${text.slice(0, 120).trim()}. ` +
      'Open it with the version of spillway that wrote it; nothing was changed.',
  );
}

/** Images without their catalog would never be delivered, and nobody would be told. */
async function assertCatalog(directory: string): Promise<void> {
  const names = await readdir(directory);
  if (names.includes(CATALOG_FILE) || !names.includes('studies')) return;
  if ((await readdir(join(directory, 'studies'))).length === 0) return;
  throw new SpillwayError(
    'SPILLWAY_STORE_FORMAT',
    `Expected ${CATALOG_FILE} beside the images in ${directory}, got none. Put it back from where it was moved to; ` +
      'until then send the files in studies/ by hand. They are plain DICOM files, and nothing was changed.',
  );
}

async function writeFormat(directory: string, path: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ format: FORMAT_NAME, version: FORMAT_VERSION })}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await nodeFileSystem.syncDirectory(directory);
}

function parseFormat(text: string): { format?: unknown; version?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
