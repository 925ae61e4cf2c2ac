import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { readAndDigest } from '../dicom/data-set-digest.ts';
import { type DicomHeader, DicomReader } from '../dicom/reader.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import { SpillwayError } from '../errors.ts';

/** One line of a test PACS's `journal.ndjson`: an instance that it stored, in the order of storing. */
export interface JournalEntry {
  readonly sopInstanceUid: string;
  readonly studyInstanceUid: string;
  /** SHA-256 (hex) of the whole file. */
  readonly fileSha256: string;
  /** SHA-256 (hex) of the data set as encoded, without preamble and file meta. */
  readonly dataSetSha256: string;
  /** Length of the file. */
  readonly bytes: number;
  /** ms since the epoch. */
  readonly storedAt: number;
  /** The same data set was held already under this SOP Instance UID. */
  readonly duplicate: boolean;
}

/** An instance that the archive holds. */
export interface ArchivedInstance {
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
  readonly dataSetSha256: string;
  readonly path: string;
}

/** An instance whose bytes came, not stored yet. Exactly one of `store` and `discard` ends it. */
export interface ReceivedInstance {
  readonly header: DicomHeader;
  readonly identity: InstanceIdentity;
  readonly dataSetSha256: string;
  readonly fileSha256: string;
  readonly bytes: number;
  readonly temporaryPath: string;
}

const JOURNAL = 'journal.ndjson';
// With a digest and `.dcm` behind it a name must stay within 255 bytes.
const MAX_NAME_LENGTH = 180;
const FILE_NAME = /^(.+)\.([0-9a-f]{64})\.dcm$/;
const HEADER_WINDOW_BYTES = 256 * 1024;

/** What a test PACS with this directory has stored, oldest first. A line that is still being written is left out. */
export async function readJournal(directory: string): Promise<readonly JournalEntry[]> {
  const text = await readFile(join(directory, JOURNAL), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter((line) => line !== '').map((line): JournalEntry => JSON.parse(line));
}

/**
 * The test PACS's storage: `studies/<study>/<series>/<instance>.<digest>.dcm`. The names alone make up the index, so
 * that the process may be killed at any moment; what is in `incoming/` then was never stored.
 */
export class PacsArchive {
  readonly #directory: string;
  readonly #onConflict: 'keep' | 'replace';
  readonly #instances = new Map<string, ArchivedInstance>();
  readonly #studies = new Map<string, Set<ArchivedInstance>>();
  readonly #headers = new WeakMap<ArchivedInstance, DicomHeader>();
  readonly #journal: FileHandle;
  #received = 0;
  /** Storing is one at a time, so that the journal has the order of the index. */
  #lastStore: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, onConflict: 'keep' | 'replace', journal: FileHandle) {
    this.#directory = directory;
    this.#onConflict = onConflict;
    this.#journal = journal;
  }

  static async open(directory: string, onConflict: 'keep' | 'replace'): Promise<PacsArchive> {
    await rm(join(directory, 'incoming'), { recursive: true, force: true });
    for (const name of ['incoming', 'studies']) await mkdir(join(directory, name), { recursive: true });
    const entries = await readJournal(directory);
    const journal = await open(join(directory, JOURNAL), 'a');
    await cutTornLine(join(directory, JOURNAL));
    const archive = new PacsArchive(directory, onConflict, journal);
    await archive.#rebuild(new Map(entries.map((entry) => [entry.sopInstanceUid, entry.dataSetSha256])));
    return archive;
  }

  instance(sopInstanceUid: string): ArchivedInstance | undefined {
    return this.#instances.get(sopInstanceUid);
  }

  /** Of one study or of all. */
  *instances(studyInstanceUid?: string): Iterable<ArchivedInstance> {
    if (studyInstanceUid === undefined) yield* this.#instances.values();
    else yield* this.#studies.get(studyInstanceUid) ?? [];
  }

  async headerOf(instance: ArchivedInstance): Promise<DicomHeader> {
    let header = this.#headers.get(instance);
    if (header === undefined) {
      header = await readHeader(instance.path);
      this.#headers.set(instance, header);
    }
    return header;
  }

  /** Writes an instance's bytes into `incoming/`. Leaves nothing behind when they fail or cannot be identified. */
  async receive(body: AsyncIterable<Uint8Array>): Promise<ReceivedInstance> {
    this.#received += 1;
    const temporaryPath = join(this.#directory, 'incoming', `${this.#received}.part`);
    const file = await open(temporaryPath, 'wx');
    try {
      const hash = createHash('sha256');
      const onFile = async (chunk: Uint8Array) => {
        hash.update(chunk);
        await file.writeFile(chunk);
      };
      const { header, digest, bytes } = await readAndDigest(body, { onFile });
      const unacceptable = ['file-meta-missing', 'transfer-syntax-missing', 'identity-from-file-meta'];
      if (header.oddities.some((oddity) => unacceptable.includes(oddity))) {
        throw new SpillwayError('SPILLWAY_NOT_DICOM', 'Expected a DICOM file that is whole, as a PACS does.');
      }
      this.#pathOf(header.identity, digest);
      const { identity } = header;
      return { header, identity, dataSetSha256: digest, fileSha256: hash.digest('hex'), bytes, temporaryPath };
    } catch (error) {
      await unlink(temporaryPath);
      throw error;
    } finally {
      await file.close();
    }
  }

  async discard(received: ReceivedInstance): Promise<void> {
    await unlink(received.temporaryPath);
  }

  /** Makes an instance visible; durable it is after `sync`. */
  async store(received: ReceivedInstance): Promise<void> {
    await syncPath(received.temporaryPath);
    const store = this.#lastStore.then(() => this.#store(received));
    this.#lastStore = store.catch(() => {});
    await store;
  }

  /** Makes the names of what was stored durable, directories included. */
  async sync(stored: readonly ReceivedInstance[]): Promise<void> {
    if (stored.length === 0) return;
    const directories = new Set<string>([join(this.#directory, 'studies')]);
    for (const { identity } of stored) {
      const study = join(this.#directory, 'studies', nameOf(identity.studyInstanceUid));
      directories.add(join(study, nameOf(identity.seriesInstanceUid))).add(study);
    }
    await Promise.all([...directories].map(syncPath));
  }

  async close(): Promise<void> {
    await this.#lastStore;
    await this.#journal.close();
  }

  async #store(received: ReceivedInstance): Promise<void> {
    const { identity, dataSetSha256 } = received;
    const held = this.#instances.get(identity.sopInstanceUid);
    const duplicate = held?.dataSetSha256 === dataSetSha256;
    if (held !== undefined && !duplicate && this.#onConflict === 'keep') {
      await this.discard(received);
      return;
    }
    const path = this.#pathOf(identity, dataSetSha256);
    await mkdir(join(path, '..'), { recursive: true });
    await rename(received.temporaryPath, path);
    if (held !== undefined && held.path !== path) await unlink(held.path);
    const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
    const instance = { studyInstanceUid, seriesInstanceUid, sopInstanceUid, dataSetSha256, path };
    this.#index(instance);
    this.#headers.set(instance, received.header);
    await this.#append(instance, received.fileSha256, received.bytes, duplicate);
  }

  #index(instance: ArchivedInstance): void {
    const held = this.#instances.get(instance.sopInstanceUid);
    if (held !== undefined) this.#studies.get(held.studyInstanceUid)?.delete(held);
    this.#instances.set(instance.sopInstanceUid, instance);
    const study = this.#studies.get(instance.studyInstanceUid) ?? new Set();
    this.#studies.set(instance.studyInstanceUid, study.add(instance));
  }

  async #append(instance: ArchivedInstance, fileSha256: string, bytes: number, duplicate: boolean): Promise<void> {
    const { sopInstanceUid, studyInstanceUid, dataSetSha256 } = instance;
    const storedAt = Date.now();
    const entry: JournalEntry = {
      sopInstanceUid,
      studyInstanceUid,
      fileSha256,
      dataSetSha256,
      bytes,
      storedAt,
      duplicate,
    };
    await this.#journal.appendFile(`${JSON.stringify(entry)}\n`);
  }

  #pathOf(identity: InstanceIdentity, digest: string): string {
    const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
    const directory = join(this.#directory, 'studies', nameOf(studyInstanceUid), nameOf(seriesInstanceUid));
    return join(directory, `${nameOf(sopInstanceUid)}.${digest}.dcm`);
  }

  /** Takes up what the directory holds; writes the journal's lines that a kill has cost. */
  async #rebuild(journalled: ReadonlyMap<string, string>): Promise<void> {
    const root = join(this.#directory, 'studies');
    for (const study of await sortedNames(root)) {
      for (const series of await sortedNames(join(root, study))) {
        for (const name of await sortedNames(join(root, study, series))) {
          const [, sopInstanceUid, dataSetSha256] = FILE_NAME.exec(name) ?? [];
          if (sopInstanceUid === undefined || dataSetSha256 === undefined) continue;
          await this.#takeUp({
            studyInstanceUid: decodeURIComponent(study),
            seriesInstanceUid: decodeURIComponent(series),
            sopInstanceUid: decodeURIComponent(sopInstanceUid),
            dataSetSha256,
            path: join(root, study, series, name),
          });
        }
      }
    }
    for (const instance of this.#instances.values()) {
      if (journalled.get(instance.sopInstanceUid) === instance.dataSetSha256) continue;
      const hash = createHash('sha256');
      let bytes = 0;
      for await (const chunk of createReadStream(instance.path)) {
        hash.update(chunk);
        bytes += chunk.length;
      }
      await this.#append(instance, hash.digest('hex'), bytes, false);
    }
  }

  async #takeUp(instance: ArchivedInstance): Promise<void> {
    const held = this.#instances.get(instance.sopInstanceUid);
    if (held === undefined) {
      this.#index(instance);
      return;
    }
    // A kill came between the new file and the end of the one that it replaces.
    const [heldStat, foundStat] = await Promise.all([stat(held.path), stat(instance.path)]);
    const isNewer = foundStat.mtimeMs >= heldStat.mtimeMs;
    if (isNewer) this.#index(instance);
    await unlink(isNewer ? held.path : instance.path);
  }
}

function nameOf(uid: string): string {
  const name = encodeURIComponent(uid);
  if (name.length <= MAX_NAME_LENGTH) return name;
  throw new SpillwayError('SPILLWAY_UID_UNSAFE', `Expected a UID that can be a file's name, got ${name.length} bytes.`);
}

async function sortedNames(directory: string): Promise<readonly string[]> {
  return (await readdir(directory)).sort();
}

async function readHeader(path: string): Promise<DicomHeader> {
  try {
    const reader = new DicomReader();
    for await (const chunk of createReadStream(path, { end: HEADER_WINDOW_BYTES - 1 })) await reader.push(chunk);
    return await reader.end();
  } catch {
    // What identifies it comes later than usual.
    return (await readAndDigest(createReadStream(path))).header;
  }
}

async function cutTornLine(path: string): Promise<void> {
  const bytes = await readFile(path);
  const end = bytes.lastIndexOf(0x0a) + 1;
  if (end < bytes.length) await truncate(path, end);
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
