import { dirname, join, resolve } from 'node:path';
import { LRUCache } from 'lru-cache';
import type { AbortableOptions } from '../domain/abort.ts';
import type { VersionRecord } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Catalog } from '../storage/catalog.ts';
import { DirectorySync } from '../storage/directory/directory-sync.ts';
import { makeDurably } from '../storage/directory/durable-directory.ts';
import { type FileSystem, nodeFileSystem } from '../storage/directory/file-system.ts';
import { FORMAT_FILE } from '../storage/file-store.ts';
import { ExportManifest } from './export-manifest.ts';
import { type ExportOutcome, FileExporter, type FileResult } from './exported-file.ts';
import { folderError, invalidOption, throwIfAborted } from './folder-errors.ts';
import { earlierPathOf, plainPathOf } from './folder-names.ts';
import { checkCallback, checkFolderOptions, DEFAULT_CONCURRENCY } from './folder-options.ts';
import { inParallel } from './in-parallel.ts';

/** What `exportStudies` is given. */
export interface ExportOptions extends AbortableOptions {
  /** Where the folders are made; made itself if it is not there. What is in it already stays as it is. */
  readonly directory: string;
  /** Study Instance UIDs as they came. @default every study */
  readonly studyInstanceUids?: readonly string[] | undefined;
  /** Files that are written at once, 1 to 64. @default 8 */
  readonly concurrency?: number | undefined;
  /**
   * Told of each version, one after another, once it is durable in the directory or cannot be; the export waits for it.
   * What it throws ends the export. @default nobody is told
   */
  readonly onInstance?: ((instance: ExportedInstance) => void | Promise<void>) | undefined;
}

/** What became of one version in an export. */
export interface ExportedInstance extends FileResult {
  readonly version: VersionRecord;
  /** Relative to the directory of the export, with `/`. */
  readonly path: string;
}

/** What an export did: how many versions came to each outcome. Whole when nothing but `written` and `present` counts. */
export interface ExportSummary extends Readonly<Record<ExportOutcome, number>> {
  readonly studies: number;
  /** Length of all files `written`. */
  readonly bytes: number;
  /** Path of the listing, with digests. */
  readonly manifest: string;
}

export interface ExportPorts {
  readonly catalog: Pick<Catalog, 'versions' | 'lastArrivalId'>;
  readonly blobs: Pick<BlobStore, 'read'>;
  /** Ends the export, with the error that it is aborted with. */
  readonly closed?: AbortSignal;
  /** @default the real one; tests put faults in */
  readonly fileSystem?: FileSystem;
}

const OPTIONS: readonly (keyof ExportOptions)[] = [
  'directory',
  'studyInstanceUids',
  'concurrency',
  'onInstance',
  'signal',
];
const PAGE_SIZE = 500;
const REMEMBERED_STUDIES = 1024;
let calls = 0;

/** See `Spillway.exportStudies`. Memory is bounded but for one entry for each instance of the study in hand. */
export async function exportStudies(ports: ExportPorts, options: ExportOptions): Promise<ExportSummary> {
  checkExportOptions(options);
  const { catalog, blobs, fileSystem = nodeFileSystem } = ports;
  const { concurrency = DEFAULT_CONCURRENCY, onInstance } = options;
  const signal = AbortSignal.any([options.signal, ports.closed].filter((given) => given !== undefined));
  throwIfAborted(signal);
  // What comes later would keep the export from ending.
  const last = (await catalog.lastArrivalId()) ?? '';
  const named = options.studyInstanceUids && new Set(options.studyInstanceUids);
  for (const study of named ?? []) await assertKnown(catalog, study);

  const root = resolve(options.directory);
  await assertOutsideStores(root, fileSystem);
  await makeDurably(root, fileSystem).catch((error) =>
    Promise.reject(folderError('make the directory of the export', error)),
  );
  calls += 1;
  const shared = {
    root,
    fileSystem,
    directories: new DirectorySync(root, fileSystem),
    unique: `${process.pid}-${Date.now().toString(36)}-${calls}`,
  };
  const exporter = new FileExporter({ ...shared, blobs, signal });
  const counts = { written: 0, present: 0, damaged: 0, missing: 0, unreadable: 0, conflict: 0, studies: 0, bytes: 0 };
  async function* files() {
    for await (const study of named ?? allStudies(catalog, last)) {
      counts.studies += 1;
      yield* filesOf(catalog, study, last);
    }
  }
  const manifest = await ExportManifest.create(shared);
  try {
    const exported = inParallel(files(), concurrency, async ({ version, path }) => ({
      version,
      path,
      ...(await exporter.export(version, path)),
    }));
    for await (const instance of exported) {
      counts[instance.outcome] += 1;
      if (instance.outcome === 'written') counts.bytes += instance.version.bytes;
      await manifest.add(instance);
      await onInstance?.(instance);
    }
    return { ...counts, manifest: await manifest.complete() };
  } catch (error) {
    await manifest.abandon().catch(() => {}); // the error that ended the export is the one to tell of
    throw error;
  }
}

function checkExportOptions(options: ExportOptions): void {
  checkFolderOptions('exportStudies', options, OPTIONS);
  checkCallback('exportStudies', 'onInstance', options.onInstance);
  const { studyInstanceUids: studies } = options;
  if (studies === undefined) return;
  if (!Array.isArray(studies) || studies.some((study) => typeof study !== 'string')) {
    throw invalidOption('exportStudies({ studyInstanceUids }) to be an array of UIDs', studies);
  }
}

async function assertKnown(catalog: ExportPorts['catalog'], studyInstanceUid: string): Promise<void> {
  const [version] = await catalog.versions({ studyInstanceUid, limit: 1 });
  if (version !== undefined) return;
  throw new SpillwayError(
    'SPILLWAY_NOT_FOUND',
    `Expected the Study Instance UID of a study in the store, got ${JSON.stringify(studyInstanceUid.slice(0, 80))}. ` +
      'Nothing was written.',
  );
}

/** A store is alone in its directory. */
async function assertOutsideStores(root: string, fileSystem: FileSystem): Promise<void> {
  for (let at = root; ; at = dirname(at)) {
    const isStore = await fileSystem.status(join(at, FORMAT_FILE)).then(
      () => true,
      () => false,
    );
    if (isStore) throw invalidOption('exportStudies({ directory }) to be outside of any store', root);
    if (at === dirname(at)) return;
  }
}

async function* versionsOf(
  catalog: ExportPorts['catalog'],
  last: string,
  of: { readonly studyInstanceUid?: string },
): AsyncGenerator<VersionRecord> {
  for (let afterArrivalId = ''; ; ) {
    const page = await catalog.versions({ ...of, ...(afterArrivalId && { afterArrivalId }), limit: PAGE_SIZE });
    for (const version of page) {
      if (version.arrivalId > last) return;
      yield version;
    }
    if (page.length < PAGE_SIZE) return;
    afterArrivalId = page.at(-1)?.arrivalId ?? afterArrivalId;
  }
}

/** Each study where its first version comes: so there is no list of studies to be held. */
async function* allStudies(catalog: ExportPorts['catalog'], last: string): AsyncGenerator<string> {
  const passed = new LRUCache<string, true>({ max: REMEMBERED_STUDIES });
  for await (const { arrivalId, identity } of versionsOf(catalog, last, {})) {
    const { studyInstanceUid } = identity;
    if (passed.get(studyInstanceUid)) continue;
    passed.set(studyInstanceUid, true);
    const [first] = await catalog.versions({ studyInstanceUid, limit: 1 });
    if (first?.arrivalId === arrivalId) yield studyInstanceUid;
  }
}

/** The files of a study: which version of an instance came last is known only at the end, so it is gone through twice. */
async function* filesOf(
  catalog: ExportPorts['catalog'],
  studyInstanceUid: string,
  last: string,
): AsyncGenerator<{ readonly version: VersionRecord; readonly path: string }> {
  const latest = new Map<string, string>();
  for await (const version of versionsOf(catalog, last, { studyInstanceUid })) {
    latest.set(plainPathOf(version), version.arrivalId);
  }
  for await (const version of versionsOf(catalog, last, { studyInstanceUid })) {
    const plain = plainPathOf(version);
    yield { version, path: latest.get(plain) === version.arrivalId ? plain : earlierPathOf(version) };
  }
}
