import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { AbortableOptions } from '../domain/abort.ts';
import type { Urgency } from '../domain/rank.ts';
import type { Receipt } from '../domain/receipt.ts';
import { SpillwayError, type SpillwayErrorCode } from '../errors.ts';
import { type SkipReason, type WalkEntry, walkDirectory } from './directory-walk.ts';
import { throwIfAborted } from './folder-errors.ts';
import { stemOf } from './folder-names.ts';
import { checkCallback, checkFolderOptions, DEFAULT_CONCURRENCY } from './folder-options.ts';
import { inParallel } from './in-parallel.ts';

/** What `importStudies` is given. */
export interface ImportOptions extends AbortableOptions {
  /** The root of the folders. Names and depth do not matter. */
  readonly directory: string;
  /** As for `accept`. */
  readonly source?: string | undefined;
  /** As for `accept`, of everything that is taken. */
  readonly urgency?: Urgency | undefined;
  /** Files that are taken in at once, 1 to 64. @default 8 */
  readonly concurrency?: number | undefined;
  /**
   * Told of each file, one after another, once it is accepted, refused or skipped; the import waits for it. What it throws
   * ends the import. @default nobody is told
   */
  readonly onFile?: ((file: ImportedFile) => void | Promise<void>) | undefined;
}

/** What became of one file; `path` is relative to the directory, with `/`. It may say who a patient is. */
export type ImportedFile =
  | { readonly outcome: Receipt['outcome']; readonly path: string; readonly receipt: Receipt }
  /** DICOM, or a folder, that could not be taken. */
  | { readonly outcome: 'refused'; readonly path: string; readonly error: SpillwayError }
  /** Nothing to be taken. */
  | { readonly outcome: 'skipped'; readonly path: string; readonly reason: SkipReason };

/** How many files came to each outcome. */
export interface ImportSummary extends Readonly<Record<ImportedFile['outcome'], number>> {
  /** Length of everything `created`, `version` or `restored`. */
  readonly bytes: number;
}

export interface ImportPorts {
  readonly accept: (path: string, options: Pick<ImportOptions, 'source' | 'urgency' | 'signal'>) => Promise<Receipt>;
}

const OPTIONS: readonly (keyof ImportOptions)[] = ['directory', 'source', 'urgency', 'concurrency', 'onFile', 'signal'];
/** The next file would fare no better. */
const ENDS_ALL: ReadonlySet<SpillwayErrorCode> = new Set([
  'SPILLWAY_STORE_FULL',
  'SPILLWAY_STORE_FAILED',
  'SPILLWAY_STORE_DAMAGED',
  'SPILLWAY_STORE_LOCKED',
  'SPILLWAY_OPTION_INVALID',
  'SPILLWAY_ABORTED',
  'SPILLWAY_CLOSED',
]);
/** Media Storage Directory Storage, whose only instance is the DICOMDIR. */
const DICOMDIR_CLASS = '1.2.840.10008.1.3.10';
/** File meta names it near its beginning. */
const SNIFFED_BYTES = 1024;

/** See `Spillway.importStudies`. Memory is bounded by the names of one folder at each depth. */
export async function importStudies(ports: ImportPorts, options: ImportOptions): Promise<ImportSummary> {
  checkFolderOptions('importStudies', options, OPTIONS);
  checkCallback('importStudies', 'onFile', options.onFile);
  const { concurrency = DEFAULT_CONCURRENCY, onFile, signal } = options;
  throwIfAborted(signal);
  const importer = new Importer(ports, options);
  const counts = { created: 0, version: 0, restored: 0, identical: 0, refused: 0, skipped: 0, bytes: 0 };
  try {
    const imported = inParallel(walkDirectory(options.directory), concurrency, (entry) => importer.import(entry));
    for await (const file of imported) {
      if (file === undefined) continue;
      counts[file.outcome] += 1;
      if (['created', 'version', 'restored'].includes(file.outcome) && 'receipt' in file)
        counts.bytes += file.receipt.bytes;
      await onFile?.(file);
    }
    return counts;
  } catch (error) {
    const { end } = importer;
    throw end !== undefined && error === end ? endedEarly(end, counts) : error;
  }
}

class Importer {
  /** Ended everything. */
  end: SpillwayError | undefined;
  readonly #ports: ImportPorts;
  readonly #options: ImportOptions;
  /** Versions of one instance are taken in one after another, so that they arrive in their order. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(ports: ImportPorts, options: ImportOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Undefined for what was not tried any more. Throws what ends the import. */
  async import(entry: WalkEntry): Promise<ImportedFile | undefined> {
    if (entry.kind === 'skipped') return { outcome: 'skipped', path: entry.path, reason: entry.reason };
    if (entry.kind === 'failed') return { outcome: 'refused', path: entry.path, error: entry.error };
    const file = join(entry.directory, entry.name);
    return this.#inTurn(stemOf(file), () => this.#take(entry.path, file));
  }

  async #take(path: string, file: string): Promise<ImportedFile | undefined> {
    if (this.end !== undefined) return undefined;
    const { source, urgency, signal } = this.#options;
    try {
      throwIfAborted(signal);
      const receipt = await this.#ports.accept(file, { source, urgency, signal });
      return { outcome: receipt.outcome, path, receipt };
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
      if (ENDS_ALL.has(error.code)) {
        this.end ??= error;
        throw this.end;
      }
      if (error.code === 'SPILLWAY_NOT_DICOM') return { outcome: 'skipped', path, reason: 'not-dicom' };
      if (error.code === 'SPILLWAY_IDENTITY_MISSING' && (await isDicomdir(file))) {
        return { outcome: 'skipped', path, reason: 'dicomdir' };
      }
      return { outcome: 'refused', path, error };
    }
  }

  async #inTurn<T>(key: string, run: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#turns.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    }
  }
}

/** Whether a file that names no study is the directory of a medium, under whatever name. */
async function isDicomdir(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(SNIFFED_BYTES), 0, SNIFFED_BYTES, 0);
      return buffer.toString('latin1', 0, bytesRead).includes(DICOMDIR_CLASS);
    } finally {
      await file.close();
    }
  } catch {
    return false; // it stays refused, for what was wrong with it
  }
}

function endedEarly(error: SpillwayError, counts: ImportSummary): SpillwayError {
  const { created, version, identical, refused, skipped } = counts;
  return new SpillwayError(
    error.code,
    `The import ended before its end, after ${created} created, ${version} further versions, ${identical} identical, ` +
      `${refused} refused and ${skipped} skipped: ${error.message} What was taken stays; importing again goes on.`,
    { cause: error },
  );
}
