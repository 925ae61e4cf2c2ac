import type { Dirent } from 'node:fs';
import { opendir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { SpillwayError } from '../errors.ts';
import { folderError } from './folder-errors.ts';
import { isUnfinished } from './folder-names.ts';

/** Why something in a folder is no instance to be taken. */
export type SkipReason =
  /** Nothing that begins like DICOM. */
  | 'not-dicom'
  /** The directory of a medium (PS3.10 section 8), which lists instances and is none. */
  | 'dicomdir'
  /** Links are never followed: what they lead to is either in the tree by itself, or outside. */
  | 'symbolic-link'
  /** A device, a socket or a pipe. */
  | 'not-a-file'
  /** A file that something was still writing (`.part`): of an export, or in flight in a store. */
  | 'unfinished';

/** One thing in a tree of folders; `path` is relative to the root, with `/`. */
export type WalkEntry =
  | { readonly kind: 'file'; readonly path: string; readonly directory: string; readonly name: string }
  | { readonly kind: 'skipped'; readonly path: string; readonly reason: SkipReason }
  | { readonly kind: 'failed'; readonly path: string; readonly error: SpillwayError };

const MAX_DEPTH = 64;
/** Names are sorted, and so held. */
const MAX_NAMES = 1_000_000;

/**
 * Everything in a tree but folders, by name: files of one folder before its folders. A folder that cannot be read
 * is `failed`, and the rest goes on.
 *
 * @throws SpillwayError `SPILLWAY_DIRECTORY_FAILED` when the root cannot be read
 */
export async function* walkDirectory(root: string): AsyncGenerator<WalkEntry> {
  let directory: string;
  try {
    directory = await realpath(root);
    await (await opendir(directory)).close();
  } catch (error) {
    throw folderError('read the directory to import', error);
  }
  yield* walk(directory, '', 0);
}

async function* walk(directory: string, relative: string, depth: number): AsyncGenerator<WalkEntry> {
  let entries: readonly Dirent[];
  try {
    entries = await sortedEntries(directory, depth);
  } catch (error) {
    yield { kind: 'failed', path: relative, error: folderError('read a folder', error) };
    return;
  }
  for (const entry of entries) {
    const { name } = entry;
    const path = `${relative}${name}`;
    if (entry.isDirectory()) continue;
    if (entry.isSymbolicLink()) yield { kind: 'skipped', path, reason: 'symbolic-link' };
    else if (!entry.isFile()) yield { kind: 'skipped', path, reason: 'not-a-file' };
    else if (isUnfinished(name)) yield { kind: 'skipped', path, reason: 'unfinished' };
    else if (name.toUpperCase() === 'DICOMDIR') yield { kind: 'skipped', path, reason: 'dicomdir' };
    else yield { kind: 'file', path, directory, name };
  }
  for (const entry of entries) {
    if (entry.isDirectory()) yield* walk(join(directory, entry.name), `${relative}${entry.name}/`, depth + 1);
  }
}

async function sortedEntries(directory: string, depth: number): Promise<readonly Dirent[]> {
  if (depth > MAX_DEPTH) throw tooMuch(`folders at most ${MAX_DEPTH} deep`);
  const entries: Dirent[] = [];
  for await (const entry of await opendir(directory)) {
    if (entries.length === MAX_NAMES) throw tooMuch(`at most ${MAX_NAMES} entries in a folder`);
    entries.push(entry);
  }
  // By code units, the same everywhere: earlier versions of an instance come before the latest.
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function tooMuch(expected: string): SpillwayError {
  return new SpillwayError('SPILLWAY_DIRECTORY_FAILED', `Expected ${expected}, got more. Import its parts one by one.`);
}
