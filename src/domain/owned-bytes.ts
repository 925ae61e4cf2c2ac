/** Memory that only whoever was handed the bytes knows of. */
const owned = new WeakSet<ArrayBufferLike>();

/** Says that nobody else has these bytes, nor others of the same buffer: whoever is done with them may give them back. */
export function handOver<Bytes extends Uint8Array>(bytes: Bytes): Bytes {
  owned.add(bytes.buffer);
  return bytes;
}

/**
 * Gives the memory of bytes that were handed over back at once; they are empty then. Of any other bytes it does nothing. The
 * garbage collector hears of large buffers late and then collects again and again: in a replay that costs more than
 * sending does.
 */
export function giveBack({ buffer }: Uint8Array): void {
  if (owned.delete(buffer) && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
