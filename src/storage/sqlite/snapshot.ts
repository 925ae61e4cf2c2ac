import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as sqlite from 'node:sqlite';
import { SpillwayError } from '../../errors.ts';
import { type DecisionLog, syncDirectory } from './decision-log.ts';
import { isDamage } from './result-codes.ts';
import { APPLICATION_ID } from './schema.ts';

const SNAPSHOTS = 'snapshots';
const NAME = /^(\d{8})\.sqlite$/;
/** One that was made of a damaged catalog must not be the only one. */
const KEPT_SNAPSHOTS = 2;
/** Between two steps, calls to the catalog have their turn. */
const PAGES_A_STEP = 256;

/** What is done while a catalog is copied. */
export interface SnapshotSteps {
  /**
   * Called after each step; until the copying has ended, only in it may the database be used. Steps are made in another
   * thread: one that finds a transaction under way may end the copying with an error.
   */
  readonly betweenSteps: () => void;
  /** Whether a copy is sound, asked where nobody waits for it: it takes as long as the copy is large. */
  readonly check: (path: string) => Promise<boolean>;
}

/**
 * Copies an open catalog to `snapshots/`, durably, and forgets the decisions that no snapshot needs any more. Calls to the
 * catalog go on meanwhile, where Node can copy in steps (22.16 and later); before that they wait.
 *
 * @throws SpillwayError `SPILLWAY_STORE_DAMAGED`: it is not, and those that were taken before stay
 */
export async function takeSnapshot(
  database: sqlite.DatabaseSync,
  directory: string,
  log: DecisionLog,
  { check, betweenSteps }: SnapshotSteps,
): Promise<void> {
  const folder = join(directory, SNAPSHOTS);
  if (mkdirSync(folder, { recursive: true, mode: 0o700 }) !== undefined) syncDirectory(directory);
  for (const name of readdirSync(folder)) if (!NAME.test(name)) rmSync(join(folder, name), { force: true });
  // What is decided from here on may or may not be in the copy.
  const number = log.rotate();
  const path = join(folder, `${String(number).padStart(8, '0')}.sqlite`);
  const temporary = `${path}.new`;
  try {
    closeSync(openSync(temporary, 'w', 0o600));
    if (typeof sqlite.backup === 'function')
      await sqlite.backup(database, temporary, { rate: PAGES_A_STEP, progress: betweenSteps });
    else database.exec(`VACUUM INTO '${temporary.replaceAll("'", "''")}'`);
    setLogAside(temporary);
    syncFile(temporary);
    if (!(await check(temporary))) {
      throw new SpillwayError(
        'SPILLWAY_STORE_DAMAGED',
        `A copy of the catalog in ${directory} is damaged, so the catalog is. Close and open the store: it is rebuilt from ` +
          'the last sound copy and the files.',
      );
    }
    renameSync(temporary, path);
  } finally {
    for (const suffix of ['', '-journal', '-wal', '-shm']) rmSync(`${temporary}${suffix}`, { force: true });
  }
  syncDirectory(folder);
  const numbers = snapshotNumbers(directory);
  for (const old of numbers.slice(KEPT_SNAPSHOTS)) rmSync(snapshotPath(directory, old), { force: true });
  const oldest = numbers.slice(0, KEPT_SNAPSHOTS).at(-1);
  if (oldest !== undefined && numbers.length >= KEPT_SNAPSHOTS) log.prune(oldest);
}

/** Numbers of the snapshots, latest first. */
export function snapshotNumbers(directory: string): number[] {
  const folder = join(directory, SNAPSHOTS);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => b - a);
}

/**
 * Puts a damaged catalog aside and the latest sound snapshot in its place; where there is none, nothing, so that a new one
 * is made. Nothing is deleted. Killed at any moment, it is done again.
 */
export function restoreSnapshot(file: string): { readonly snapshot: string | null; readonly damaged: string | null } {
  const directory = dirname(file);
  const damaged = putAside(file);
  const snapshot = snapshotNumbers(directory)
    .map((number) => snapshotPath(directory, number))
    .find(isSound);
  if (snapshot !== undefined) {
    const temporary = `${file}.new`;
    try {
      copyFileSync(snapshot, temporary);
      syncFile(temporary);
      renameSync(temporary, file);
    } catch (error) {
      // On a full disk it takes the place itself: the next copy is soon made.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
      rmSync(temporary, { force: true });
      renameSync(snapshot, file);
    }
  }
  syncDirectory(directory);
  return { snapshot: snapshot === undefined ? null : `${SNAPSHOTS}/${basename(snapshot)}`, damaged };
}

function snapshotPath(directory: string, number: number): string {
  return join(directory, SNAPSHOTS, `${String(number).padStart(8, '0')}.sqlite`);
}

function putAside(file: string): string | null {
  const folder = join(dirname(file), 'damaged');
  const names = ['', '-wal', '-shm'].filter((suffix) => existsSync(`${file}${suffix}`));
  if (names.length === 0) return null;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const name = `${new Date().toISOString().replaceAll(':', '')}-${basename(file)}`;
  // The log first: it must never stand beside a database that is not its own.
  for (const suffix of names.reverse()) renameSync(`${file}${suffix}`, join(folder, `${name}${suffix}`));
  syncDirectory(folder);
  return `damaged/${name}`;
}

/**
 * Whether a copy is a catalog without fault.
 *
 * @throws what says nothing of the copy, such as a lack of descriptors: it is to be asked again
 */
export function isSound(path: string): boolean {
  try {
    const database = new sqlite.DatabaseSync(path, { readOnly: true });
    try {
      // An empty file is a database without fault.
      if (database.prepare('PRAGMA application_id').get()?.application_id !== APPLICATION_ID) return false;
      return database.prepare('PRAGMA quick_check(1)').get()?.quick_check === 'ok';
    } finally {
      database.close();
    }
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}

/**
 * A copy is nobody's to write to: without a log it is read alone, and needs no file beside it, for which there may be no
 * room. The two versions of the file format in its header say so (https://www.sqlite.org/fileformat2.html#file_format_version_numbers).
 */
function setLogAside(path: string): void {
  const file = openSync(path, 'r+');
  try {
    writeSync(file, Uint8Array.of(1, 1), 0, 2, 18);
  } finally {
    closeSync(file);
  }
}

function syncFile(path: string): void {
  const file = openSync(path, 'r+');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
