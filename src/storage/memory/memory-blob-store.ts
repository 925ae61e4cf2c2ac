import { SpillwayError } from '../../errors.ts';
import type { BlobPlacement, BlobStore, BlobWriter } from '../blob-store.ts';

const READ_CHUNK_BYTES = 1024 * 1024;

/** Blobs in memory. */
export class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<string, readonly Uint8Array[]>();
  readonly #inFlight = new Set<MemoryBlobWriter>();

  async create(): Promise<BlobWriter> {
    const writer = new MemoryBlobWriter(this.#blobs, this.#inFlight);
    this.#inFlight.add(writer);
    return writer;
  }

  async *read(ref: string): AsyncGenerator<Uint8Array> {
    const chunks = this.#blobs.get(ref);
    if (chunks === undefined) {
      throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the reference of a stored blob, got "${ref}".`);
    }
    for (const chunk of chunks) {
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
  readonly #blobs: Map<string, readonly Uint8Array[]>;
  readonly #inFlight: Set<MemoryBlobWriter>;
  #chunks: Uint8Array[] = [];
  #placedAs: { readonly arrivalId: string; readonly ref: string } | null = null;
  #isEnded = false;

  constructor(blobs: Map<string, readonly Uint8Array[]>, inFlight: Set<MemoryBlobWriter>) {
    this.#blobs = blobs;
    this.#inFlight = inFlight;
  }

  get placedAs(): { readonly arrivalId: string } | null {
    return this.#placedAs;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#expectWritable('written to');
    this.#chunks.push(Uint8Array.from(chunk));
  }

  async place({ arrivalId }: BlobPlacement): Promise<string> {
    this.#expectWritable('placed');
    const ref = `memory:${arrivalId}`;
    if (this.#blobs.has(ref)) {
      throw new SpillwayError('SPILLWAY_STORE_FAILED', `Expected a new arrival id, got "${arrivalId}" a second time.`);
    }
    this.#blobs.set(ref, this.#chunks);
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
