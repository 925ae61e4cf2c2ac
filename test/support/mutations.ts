import { delimiter, ITEM } from './element-bytes.ts';

const META_START = 132;

/** Bytes that were a DICOM file: cut, with bytes removed, repeated, overwritten, or an item put in. */
export function mutated(seed: Uint8Array, random: () => number): Uint8Array {
  let bytes = Buffer.from(seed);
  const somewhere = (limit: number) => Math.floor(random() * limit);
  for (let count = 1 + somewhere(3); count > 0; count -= 1) {
    // Most of a header's meaning stands at its beginning.
    const at = random() < 0.6 ? somewhere(META_START + 2_000) : META_START + somewhere(bytes.length);
    const length = somewhere(random() < 0.5 ? 4 : 64);
    const kind = somewhere(7);
    if (kind === 0) bytes = bytes.subarray(0, at);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    else if (kind === 2)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]);
    else if (kind === 3) bytes.subarray(at, at + 4).fill(random() < 0.5 ? 0xff : 0);
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), delimiter(ITEM), bytes.subarray(at)]);
    else if (kind === 5) bytes = bytes.subarray(random() < 0.5 ? META_START : somewhere(META_START));
    else if (at < bytes.length) bytes[at] = somewhere(256);
  }
  return bytes;
}
