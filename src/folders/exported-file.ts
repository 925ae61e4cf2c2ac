import { createHash, type Hash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { type DigestedInstance, readAndDigest } from '../dicom/data-set-digest.ts';
import type { VersionRecord } from '../domain/delivery.ts';
import { messageOf, SpillwayError } from '../errors.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { DirectorySync } from '../storage/directory/directory-sync.ts';
import { systemCode } from '../storage/directory/file-errors.ts';
import type { FileSystem, WritableFile } from '../storage/directory/file-system.ts';
import { folderError, throwIfAborted } from './folder-errors.ts';
import { unfinishedName } from './folder-names.ts';
import { linkOnce } from './link-once.ts';

const READ_CHUNK_BYTES = 256 * 1024;
/** Something else than a file, something above it that is no directory, or what nobody may look at. */
const NO_FILE: ReadonlySet<string> = new Set(['EISDIR', 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM']);

/**
 * What became of one version.
 *
 * - `written`: copied, digest compared, durable. `present`: was there before, and is equal.
 * - `damaged`: the store's bytes are not those of its record. `missing`: the store has no bytes any more. `unreadable`:
 *   the store failed while they were read. Nothing is left of these.
 * - `conflict`: something else has its name, and was left as it is.
 */
export type ExportOutcome = 'written' | 'present' | 'damaged' | 'missing' | 'unreadable' | 'conflict';

export interface FileResult {
  readonly outcome: ExportOutcome;
  /** SHA-256 (hex) of the whole file in the directory; null when it is not there. */
  readonly fileSha256: string | null;
  /** Why it is not there; null when it is. */
  readonly problem: string | null;
}

export interface FileExporterOptions {
  readonly root: string;
  readonly fileSystem: FileSystem;
  readonly directories: DirectorySync;
  readonly blobs: Pick<BlobStore, 'read'>;
  readonly signal: AbortSignal;
  /** Tells this call from others. */
  readonly unique: string;
}

/** Copies versions out of the store, one file each. */
export class FileExporter {
  readonly #options: FileExporterOptions;
  #count = 0;

  constructor(options: FileExporterOptions) {
    this.#options = options;
  }

  /** @throws SpillwayError `SPILLWAY_DIRECTORY_FAILED`, `SPILLWAY_ABORTED`; all else is an outcome */
  async export(version: VersionRecord, relative: string): Promise<FileResult> {
    const path = join(this.#options.root, ...relative.split('/'));
    throwIfAborted(this.#options.signal);
    return (await this.#compare(version, path)) ?? (await this.#copy(version, path));
  }

  /** Undefined when nothing has the name. */
  async #compare(version: VersionRecord, path: string): Promise<FileResult | undefined> {
    const { fileSystem, directories } = this.#options;
    const hash = createHash('sha256');
    try {
      const { isFile } = await fileSystem.status(path);
      if (!isFile) return conflict('something that is no file to be read');
      const found = await readAndDigest(this.#hashed(fileSystem.read(path, READ_CHUNK_BYTES), hash));
      if (!isEqual(found, version)) return conflict('another file');
      // Who put it there may not have lived to sync its name.
      await directories.sync(dirname(path));
      return { outcome: 'present', fileSha256: hash.digest('hex'), problem: null };
    } catch (error) {
      const code = systemCode(error);
      if (code === 'ENOENT') return undefined;
      if (code !== undefined && NO_FILE.has(code)) return conflict('something that is no file to be read');
      if (isOfTheCall(error) || !(error instanceof SpillwayError)) throw folderError('read what is there', error);
      return conflict('another file');
    }
  }

  async #copy(version: VersionRecord, path: string): Promise<FileResult> {
    const { root, fileSystem, unique } = this.#options;
    this.#count += 1;
    const temporary = join(root, unfinishedName(`${unique}-${this.#count}`));
    let file: WritableFile | undefined;
    try {
      file = await fileSystem.create(temporary);
      const read = await this.#readInto(file, version);
      if (read.outcome !== 'written') return read;
      await file.sync();
      const writable = file;
      file = undefined;
      await writable.close();
      return await this.#name(version, temporary, path, read);
    } catch (error) {
      throw folderError('write to the directory of the export', error);
    } finally {
      await file?.close().catch(() => {});
      await fileSystem.unlink(temporary).catch(() => {}); // gone where it has its name; otherwise a left-over is harmless
    }
  }

  async #readInto(file: WritableFile, version: VersionRecord): Promise<FileResult> {
    const hash = createHash('sha256');
    const { blobs } = this.#options;
    async function* written(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      for await (const chunk of chunks) {
        for (let at = 0; at < chunk.byteLength; ) {
          at += await file.write(chunk, at).catch((error) => Promise.reject(folderError('write a file', error)));
        }
        yield chunk;
      }
    }
    try {
      const read = await readAndDigest(written(this.#hashed(blobs.read(version.blobRef), hash)));
      if (isEqual(read, version)) return { outcome: 'written', fileSha256: hash.digest('hex'), problem: null };
      return failed('damaged', 'the bytes in the store are not those that were accepted');
    } catch (error) {
      if (isOfTheCall(error)) throw error;
      if (!(error instanceof SpillwayError)) return failed('unreadable', messageOf(error));
      if (error.code === 'SPILLWAY_NOT_FOUND') return failed('missing', error.message);
      if (error.code === 'SPILLWAY_STORE_FAILED') return failed('unreadable', error.message);
      return failed('damaged', error.message);
    }
  }

  async #name(version: VersionRecord, temporary: string, path: string, read: FileResult): Promise<FileResult> {
    const { fileSystem, directories } = this.#options;
    await directories.ensure(dirname(path));
    if (!(await linkOnce(fileSystem, temporary, path))) {
      // Somebody else was faster, or a link that leads nowhere is there.
      return (await this.#compare(version, path)) ?? conflict('something that is no file to be read');
    }
    await directories.sync(dirname(path));
    return read;
  }

  async *#hashed(chunks: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      throwIfAborted(this.#options.signal);
      hash.update(chunk);
      yield chunk;
    }
  }
}

function isEqual({ header, digest, bytes }: DigestedInstance, version: VersionRecord): boolean {
  return (
    digest === version.digest &&
    bytes === version.bytes &&
    header.identity.sopInstanceUid === version.identity.sopInstanceUid &&
    header.identity.transferSyntaxUid === version.identity.transferSyntaxUid
  );
}

/** Errors that end the whole call, rather than one instance. */
function isOfTheCall(error: unknown): boolean {
  return (
    error instanceof SpillwayError &&
    ['SPILLWAY_DIRECTORY_FAILED', 'SPILLWAY_ABORTED', 'SPILLWAY_CLOSED'].includes(error.code)
  );
}

function failed(outcome: ExportOutcome, problem: string): FileResult {
  return { outcome, fileSha256: null, problem };
}

function conflict(what: string): FileResult {
  return failed('conflict', `${what} has its name, and was left as it is`);
}
