import { formatBytes } from '../../domain/units.ts';
import { SpillwayError } from '../../errors.ts';
import type { BlobPlacement, BlobRoom, BlobStore, BlobWriter, StoredBlob } from '../blob-store.ts';

const READ_CHUNK_BYTES = 1024 * 1024;
const PREFIX = 'memory:';

interface MemoryBlob {
  readonly chunks: readonly Uint8Array[];
  readonly digest: string;
}

/** Blobs in memory. */
export class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<string, MemoryBlob>();
  readonly #inFlight = new Set<MemoryBlobWriter>();
  readonly #maxBytes: number;

  constructor(maxBytes = Number.POSITIVE_INFINITY) {
    this.#maxBytes = maxBytes;
  }

  async create(): Promise<BlobWriter> {
    if ((await this.room()).bytes === 0) {
      throw new SpillwayError(
        'SPILLWAY_STORE_FULL',
        `Expected at most ${formatBytes(this.#maxBytes)} of images (maxBytes), got as much. Send this again later.`,
      );
    }
    const writer = new MemoryBlobWriter(this.#blobs, this.#inFlight);
    this.#inFlight.add(writer);
    return writer;
  }

  async *read(ref: string): AsyncGenerator<Uint8Array> {
    const blob = this.#blobs.get(ref);
    if (blob === undefined) {
      throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the reference of a stored blob, got "${ref}".`);
    }
    for (const chunk of blob.chunks) {
      for (let start = 0; start < chunk.length; start += READ_CHUNK_BYTES) {
        // A copy: what a reader does to it must not change the blob.
        yield chunk.slice(start, start + READ_CHUNK_BYTES);
      }
    }
  }

  async has(ref: string): Promise<boolean> {
    return this.#blobs.has(ref);
  }

  async remove(ref: string): Promise<void> {
    this.#blobs.delete(ref);
  }

  async setAside(ref: string): Promise<void> {
    this.#blobs.delete(ref);
  }

  async room(): Promise<BlobRoom> {
    let used = 0;
    for (const { chunks } of this.#blobs.values()) used += lengthOf(chunks);
    const bytes = Math.max(0, this.#maxBytes - used);
    return { bytes, ofBytes: this.#maxBytes, limitedBy: Number.isFinite(bytes) ? 'maxBytes' : null };
  }

  async *list(): AsyncGenerator<StoredBlob> {
    for (const [ref, { chunks, digest }] of [...this.#blobs]) {
      yield { ref, arrivalId: ref.slice(PREFIX.length), digest, bytes: lengthOf(chunks) };
    }
  }

  async recover(isKnown: (arrivalId: string) => Promise<boolean>): Promise<number> {
    let removed = 0;
    for (const writer of [...this.#inFlight]) {
      const { placedAs } = writer;
      if (placedAs !== null && (await isKnown(placedAs.arrivalId))) {
        await writer.release();
      } else {
        await writer.abort();
        removed += 1;
      }
    }
    return removed;
  }
}

class MemoryBlobWriter implements BlobWriter {
  readonly #blobs: Map<string, MemoryBlob>;
  readonly #inFlight: Set<MemoryBlobWriter>;
  #chunks: Uint8Array[] = [];
  #placedAs: { readonly arrivalId: string; readonly ref: string } | null = null;
  #isComplete = false;
  #isEnded = false;

  constructor(blobs: Map<string, MemoryBlob>, inFlight: Set<MemoryBlobWriter>) {
    this.#blobs = blobs;
    this.#inFlight = inFlight;
  }

  get placedAs(): { readonly arrivalId: string } | null {
    return this.#placedAs;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#expectWritable('written to');
    if (this.#isComplete) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'A blob that is synced takes no more.');
    this.#chunks.push(Uint8Array.from(chunk));
  }

  beginSync(): void {
    this.#expectWritable('synced');
    this.#isComplete = true;
  }

  async place({ arrivalId, digest }: BlobPlacement): Promise<string> {
    this.#expectWritable('placed');
    const ref = `${PREFIX}${arrivalId}`;
    if (this.#blobs.has(ref)) {
      throw new SpillwayError('SPILLWAY_STORE_FAILED', `Expected a new arrival id, got "${arrivalId}" a second time.`);
    }
    this.#blobs.set(ref, { chunks: this.#chunks, digest });
    this.#placedAs = { arrivalId, ref };
    return ref;
  }

  async release(): Promise<void> {
    this.#end();
  }

  async abort(): Promise<void> {
    if (!this.#isEnded && this.#placedAs !== null) this.#blobs.delete(this.#placedAs.ref);
    this.#end();
  }

  #end(): void {
    this.#isEnded = true;
    this.#chunks = [];
    this.#inFlight.delete(this);
  }

  #expectWritable(use: string): void {
    if (!this.#isEnded && this.#placedAs === null) return;
    throw new SpillwayError(
      'SPILLWAY_STORE_FAILED',
      `A blob that is placed or ended cannot be ${use}. Create another.`,
    );
  }
}

function lengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((total, chunk) => total + chunk.length, 0);
}
