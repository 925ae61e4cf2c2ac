import { SpillwayError } from '../errors.ts';
import type { BlobPlacement, BlobWriter } from '../storage/blob-store.ts';

/** Room that is made ahead of an instance while it is written, and how much may be written between two looks. */
const AHEAD_BYTES = 32 * 1024 * 1024;
const LOOK_EVERY_BYTES = 8 * 1024 * 1024;

/** Who makes room. */
export interface RoomMaker {
  /** Has room for so many bytes made, if it can be. */
  readonly keepAhead: (bytes: number) => Promise<void>;
  /** A refusal, with why no room could be made. */
  readonly explain: (error: SpillwayError) => Promise<SpillwayError>;
}

/** Has room made while an instance grows, since few senders tell how long it will be. */
export class RoomMakingWriter implements BlobWriter {
  readonly #writer: BlobWriter;
  readonly #maker: RoomMaker;
  #bytes = 0;
  /** There was no room for it on the disk itself, or it was placed and not committed, which may be for the same reason. */
  #mayBeShort = false;
  #sinceLook = 0;

  constructor(writer: BlobWriter, maker: RoomMaker) {
    this.#writer = writer;
    this.#maker = maker;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#sinceLook += chunk.byteLength;
    if (this.#sinceLook >= LOOK_EVERY_BYTES) {
      this.#sinceLook = 0;
      await this.#maker.keepAhead(AHEAD_BYTES);
    }
    this.#bytes += chunk.byteLength;
    await this.#writer.write(chunk).catch((error) => this.#failed(error));
  }

  beginSync(): void {
    this.#writer.beginSync();
  }

  async place(placement: BlobPlacement): Promise<string> {
    const ref = await this.#writer.place(placement).catch((error) => this.#failed(error));
    this.#mayBeShort = true;
    return ref;
  }

  async #failed(error: unknown): Promise<never> {
    if (!(error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_FULL')) throw error;
    this.#mayBeShort = true;
    throw await this.#maker.explain(error);
  }

  release(): Promise<void> {
    return this.#writer.release();
  }

  async abort(): Promise<void> {
    await this.#writer.abort();
    // When it is sent again there is to be room for it. Not before it has gone: what evicts needs some, too.
    if (this.#mayBeShort) await this.#maker.keepAhead(2 * this.#bytes);
    this.#mayBeShort = false;
  }
}
