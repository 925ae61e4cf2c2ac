import { open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { formatBytes } from '../domain/units.ts';
import { SpillwayError } from '../errors.ts';
import type { Catalog } from './catalog.ts';
import { DirectoryBlobStore } from './directory/directory-blob-store.ts';
import { makeDurably } from './directory/durable-directory.ts';
import { storeError, systemCode } from './directory/file-errors.ts';
import { type FileSystem, nodeFileSystem } from './directory/file-system.ts';
import { assertLocalFileSystem } from './directory/network-file-system.ts';
import type { RoomLimits } from './directory/room.ts';
import { unmarkDamaged } from './sqlite/damaged-mark.ts';
import { openSqliteCatalog, type SqliteCatalog } from './sqlite/sqlite-catalog.ts';
import type { OpenStore, Store } from './store.ts';

/** A directory that holds it is a store. */
export const FORMAT_FILE = 'spillway.json';
const FORMAT_NAME = 'spillway-store';
const FORMAT_VERSION = 1;
const LOCK_FILE = 'lock';
const CATALOG_FILE = 'catalog.sqlite';
const SQLITE_BUSY = 5;
const CANNOT_SYNC_DIRECTORIES =
  'Directories cannot be synced on this system (Windows): the name of a file survives a loss of power only as far as the ' +
  'file system sees to it by itself. What was written survives a crash of the process.';
const MIN_FREE_BYTES = 256 * 1024 * 1024;

/** Where `fileStore` keeps its files. */
export interface FileStoreOptions {
  /** A directory on a local disk, made if it is not there; spillway must be alone in it. */
  readonly directory: string;
  /**
   * What all images may take together, in bytes; the catalog comes on top. Where it is reached, verified studies make room,
   * or instances are refused (`SPILLWAY_STORE_FULL`). @default what `minFreeBytes` leaves
   */
  readonly maxBytes?: number | undefined;
  /**
   * The same while less is free on its file system, in bytes: so there is room for the catalog, and what was accepted is
   * delivered on a full disk too. @default 256 MiB
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
  const { maxBytes, minFreeBytes = MIN_FREE_BYTES } = options;
  if (!Number.isSafeInteger(minFreeBytes) || minFreeBytes < 0) throw invalidBytes('minFreeBytes', 0, minFreeBytes);
  if (maxBytes !== undefined && !(Number.isSafeInteger(maxBytes) && maxBytes > 0)) {
    throw invalidBytes('maxBytes', 1, maxBytes);
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
      return openFileStore(directory, nodeFileSystem, { maxBytes, minFreeBytes });
    },
  };
}

function invalidBytes(name: string, least: number, came: unknown): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected fileStore({ ${name} }) to be a whole number of bytes, ${least} or more, got ${String(came)}.`,
  );
}

/** @param fileSystem - What the blobs are written through; tests put faults in. */
export async function openFileStore(
  directory: string,
  fileSystem: FileSystem,
  limits: RoomLimits = { minFreeBytes: MIN_FREE_BYTES },
): Promise<OpenStore> {
  await makeDurably(directory, nodeFileSystem).catch((error) =>
    Promise.reject(storeError(`make the directory ${directory}`, error)),
  );
  const lock = await lockDirectory(directory);
  let blobs: DirectoryBlobStore | undefined;
  let catalog: SqliteCatalog | undefined;
  try {
    const wasStore = await checkFormat(directory);
    await assertLimits(directory, fileSystem, limits);
    const hadImages = await holdsImages(directory);
    const expected = wasStore && (await holdsAnything(directory));
    blobs = await DirectoryBlobStore.open(directory, fileSystem, limits);
    const file = join(directory, CATALOG_FILE);
    catalog = await openSqliteCatalog({ file, rebuild: { blobRoot: directory, expected } });
    if (catalog.rebuilt !== null) {
      // An older catalog does not know all that was acknowledged: what was placed stays, whatever it says.
      await blobs.recover(async () => true);
      unmarkDamaged(file);
    }
    if (!hadImages) await assertNoImagesGone(directory, catalog);
    const evicting = await catalog.evictions({ limit: Number.MAX_SAFE_INTEGER });
    blobs.countHeld(evicting.reduce((total, { bytes }) => total + bytes, (await catalog.held()).bytes));
    const opened = { catalog, blobs };
    let closing: Promise<void> | undefined;
    const close = async () => {
      try {
        await opened.catalog.close();
      } finally {
        await opened.blobs.close();
        lock.close();
      }
    };
    const snapshot = async () => {
      // The copy must not take what is kept free for the catalog itself.
      const { size } = await stat(file);
      const { free } = await fileSystem.space(directory);
      if (free - size >= (limits.minFreeBytes ?? 0)) return opened.catalog.snapshot();
      throw new SpillwayError(
        'SPILLWAY_STORE_FULL',
        `Expected room for a copy of the catalog (${formatBytes(size)}) beside what stays free, got ${formatBytes(free)}. ` +
          'Should the catalog be lost, an older copy is all there is: raise minFreeBytes by as much, or lower maxBytes.',
      );
    };
    return {
      ...opened,
      rebuilt: catalog.rebuilt,
      lost: catalog.lost,
      caveats: blobs.canSyncDirectories ? [] : [CANNOT_SYNC_DIRECTORIES],
      snapshot,
      close() {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    await catalog?.close().catch(() => {});
    await blobs?.close();
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

/** Whether there is more than an opening makes that was killed before it had made a catalog. */
async function holdsAnything(directory: string): Promise<boolean> {
  const names = await readdir(directory);
  if (names.includes('snapshots') || names.includes('decisions')) return true;
  return holdsImages(directory);
}

/** Whether there is anything in `studies/`. */
async function holdsImages(directory: string): Promise<boolean> {
  try {
    return (await readdir(join(directory, 'studies'))).length > 0;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** A folder that was moved, or is to be mounted yet, must not put a whole backlog into quarantine. */
async function assertNoImagesGone(directory: string, catalog: Catalog): Promise<void> {
  const { instances } = await catalog.held();
  const [first] = await catalog.versions({ limit: 1 });
  if (instances === 0 || !first?.blobRef.startsWith('studies/')) return;
  throw new SpillwayError(
    'SPILLWAY_STORE_FORMAT',
    `Expected the files of ${instances} instances in ${join(directory, 'studies')}, got none. Mount it, or put them back from ` +
      'where they were moved to. If they are gone for good, make a file named "gone" in it: they are put on record as missing.',
  );
}

/** Limits that the file system can never keep would refuse everything, at the worst moment. */
async function assertLimits(directory: string, fileSystem: FileSystem, limits: RoomLimits): Promise<void> {
  const { maxBytes = 0, minFreeBytes = 0 } = limits;
  if (maxBytes === 0 && minFreeBytes === 0) return;
  const { total } = await fileSystem.space(directory);
  if (maxBytes + minFreeBytes <= total) return;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected maxBytes (${formatBytes(maxBytes)}) and minFreeBytes (${formatBytes(minFreeBytes)}) to fit together on the ` +
      `file system of ${directory}, got one of ${formatBytes(total)}. Lower them, or give it a larger disk.`,
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
