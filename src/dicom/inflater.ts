import type { Transform } from 'node:stream';
import { createGunzip, createInflate, createInflateRaw } from 'node:zlib';

/** Inflating ends here: a header that has not shown its identity by then is no header but a bomb. */
const MAX_INFLATED_BYTES = 64 * 1024 * 1024;
/**
 * Deflated bytes are inflated in blocks of this length: a block that turns out to be corrupt gives nothing, so that
 * blocks of any other length would make what is read depend on how the bytes arrive.
 */
const BLOCK_BYTES = 4096;

/**
 * Inflates a deflated data set (PS3.5 annex A.5) as far as `MAX_INFLATED_BYTES`, and hands over what comes out. The
 * standard asks for raw deflate; the wrappers of zlib and gzip, which some writers put around it, are read too.
 */
export class Inflater {
  /** There was more, which was not looked at. */
  stoppedEarly = false;
  failed: 'truncated' | 'unreadable' | undefined;
  readonly #onBytes: (bytes: Buffer) => void;
  readonly #onWrapper: () => void;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #inflate: Transform | undefined;
  #filled = 0;
  #inflated = 0;

  /** @param onWrapper - The data set is not raw deflate. */
  constructor(onBytes: (bytes: Buffer) => void, onWrapper: () => void) {
    this.#onBytes = onBytes;
    this.#onWrapper = onWrapper;
  }

  async write(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#isDone(); ) {
      const copied = bytes.copy(this.#block, this.#filled, at);
      this.#filled += copied;
      at += copied;
      if (this.#filled === BLOCK_BYTES) await this.#flush();
    }
  }

  async end(): Promise<void> {
    if (this.#isDone()) return;
    const inflate = await this.#flush();
    if (this.#isDone()) return;
    await new Promise<void>((resolve) => {
      inflate.once('close', resolve);
      inflate.end();
    });
  }

  async #flush(): Promise<Transform> {
    const block = Buffer.from(this.#block.subarray(0, this.#filled));
    this.#filled = 0;
    this.#inflate ??= this.#start(block);
    const inflate = this.#inflate;
    await new Promise<void>((resolve) => {
      // `close` comes instead of the callback when the stream is destroyed in mid-write.
      const settle = () => {
        inflate.off('close', settle);
        resolve();
      };
      inflate.once('close', settle);
      inflate.write(block, settle);
    });
    return inflate;
  }

  #start(first: Buffer): Transform {
    const kind = wrapperOf(first);
    if (kind !== 'raw') this.#onWrapper();
    const inflate: Transform = kind === 'raw' ? createInflateRaw() : kind === 'zlib' ? createInflate() : createGunzip();
    inflate.on('data', (chunk: Buffer) => {
      if (this.stoppedEarly) return;
      this.#onBytes(chunk);
      this.#inflated += chunk.length;
      if (this.#inflated > MAX_INFLATED_BYTES) {
        this.stoppedEarly = true;
        inflate.destroy();
      }
    });
    inflate.on('error', (error: NodeJS.ErrnoException) => {
      this.failed = error.code === 'Z_BUF_ERROR' ? 'truncated' : 'unreadable';
    });
    return inflate;
  }

  #isDone(): boolean {
    return this.stoppedEarly || this.failed !== undefined || this.#inflate?.closed === true;
  }
}

/** By RFC 1950 section 2.2 and RFC 1952 section 2.3, where the bytes could not begin a raw deflate stream as well. */
function wrapperOf(block: Buffer): 'raw' | 'zlib' | 'gzip' {
  if (block.length < 5) return 'raw';
  // Block type 3 does not exist in deflate (RFC 1951 section 3.2.3).
  if (block[0] === 0x1f && block[1] === 0x8b) return 'gzip';
  const isZlib = ((block[0] ?? 0) & 0x0f) === 8 && block.readUInt16BE(0) % 31 === 0;
  // The same first byte begins a stored block, whose length stands twice, once inverted.
  const isStored = (block.readUInt16LE(1) ^ 0xffff) === block.readUInt16LE(3);
  return isZlib && !isStored ? 'zlib' : 'raw';
}
