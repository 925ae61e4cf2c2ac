import { join } from 'node:path';
import type { DirectorySync } from '../storage/directory/directory-sync.ts';
import { systemCode } from '../storage/directory/file-errors.ts';
import type { FileSystem, WritableFile } from '../storage/directory/file-system.ts';
import type { ExportedInstance } from './export-studies.ts';
import { folderError } from './folder-errors.ts';
import { unfinishedName } from './folder-names.ts';
import { linkOnce } from './link-once.ts';

const COLUMNS = [
  'file_sha256',
  'path',
  'outcome',
  'bytes',
  'data_set_sha256',
  'transfer_syntax_uid',
  'sop_instance_uid',
  'arrival_id',
  'received_at',
] as const;
const FLUSH_BYTES = 64 * 1024;
const MAX_MANIFESTS = 10_000;

interface ManifestOptions {
  readonly root: string;
  readonly fileSystem: FileSystem;
  readonly directories: DirectorySync;
  /** Tells this call from others. */
  readonly unique: string;
}

/** The listing of an export, written as it goes on and named when it is whole: one line for each instance, tabs between. */
export class ExportManifest {
  readonly #options: ManifestOptions;
  readonly #temporary: string;
  readonly #file: WritableFile;
  #lines: string[] = [COLUMNS.join('\t')];
  #pendingBytes = 0;

  private constructor(options: ManifestOptions, temporary: string, file: WritableFile) {
    this.#options = options;
    this.#temporary = temporary;
    this.#file = file;
  }

  static async create(options: ManifestOptions): Promise<ExportManifest> {
    const temporary = join(options.root, unfinishedName(`${options.unique}-manifest`));
    try {
      return new ExportManifest(options, temporary, await options.fileSystem.create(temporary));
    } catch (error) {
      throw folderError('write the manifest of the export', error);
    }
  }

  async add({ version, outcome, path, fileSha256 }: ExportedInstance): Promise<void> {
    const { identity, digest, bytes, arrivalId, receivedAt } = version;
    const line = [
      fileSha256 ?? '-',
      path,
      outcome,
      bytes,
      digest,
      identity.transferSyntaxUid,
      identity.sopInstanceUid,
      arrivalId,
      new Date(receivedAt).toISOString(),
    ].join('\t');
    this.#lines.push(line);
    this.#pendingBytes += line.length;
    if (this.#pendingBytes >= FLUSH_BYTES) await this.#flush();
  }

  /** Makes it durable under the first of `manifest.tsv`, `manifest-2.tsv`, … that is free; returns its path. */
  async complete(): Promise<string> {
    const { root, fileSystem, directories } = this.#options;
    try {
      await this.#flush();
      await this.#file.sync();
      await this.#file.close();
      for (let count = 1; count <= MAX_MANIFESTS; count += 1) {
        const path = join(root, count === 1 ? 'manifest.tsv' : `manifest-${count}.tsv`);
        if (!(await linkOnce(fileSystem, this.#temporary, path))) continue;
        await directories.sync(root);
        return path;
      }
      throw new Error(`${MAX_MANIFESTS} manifests are there`);
    } catch (error) {
      throw folderError('write the manifest of the export', error);
    }
  }

  /** Nothing of it stays. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => {});
    await this.#options.fileSystem.unlink(this.#temporary).catch((error) => {
      if (systemCode(error) !== 'ENOENT') throw folderError('remove an unfinished manifest', error);
    });
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.from(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    this.#pendingBytes = 0;
    for (let at = 0; at < bytes.length; ) {
      at += await this.#file
        .write(bytes, at)
        .catch((error) => Promise.reject(folderError('write the manifest of the export', error)));
    }
  }
}
