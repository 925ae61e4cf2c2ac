// One instance of about 1 GiB is accepted and read back: `node large-pass.ts DIRECTORY`.

import { readFileSync } from 'node:fs';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { syntheticInstance } from '../../src/testing/synthetic.ts';
import type { OutgoingInstance, Transport } from '../../src/transports/transport.ts';

const [directory = ''] = process.argv.slice(2);
const FRAME_BYTES = 512 * 512 * 2;
const FRAMES = 2_048;

/** As sockets give them. */
const CHUNK_BYTES = 64 * 1024;

/** A multiframe of 1 GiB that is never whole in memory. */
async function* instance(): AsyncGenerator<Uint8Array> {
  yield syntheticInstance({
    omit: ['7FE00010'],
    elements: [{ tag: '00280008', vr: 'IS', value: String(FRAMES) }],
  });
  const header = Buffer.from([0xe0, 0x7f, 0x10, 0x00, 0x4f, 0x57, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(FRAMES * FRAME_BYTES, 8);
  yield header;
  const frame = Buffer.alloc(FRAME_BYTES);
  for (let number = 0; number < FRAMES; number += 1) {
    frame.fill(number & 0xff);
    // Never the same buffer again.
    for (let at = 0; at < FRAME_BYTES; at += CHUNK_BYTES) yield Buffer.from(frame.subarray(at, at + CHUNK_BYTES));
  }
}

/** The system's count for this very process: that of `resourceUsage` begins with what the parent had. */
function peakMb(): number {
  const kib = /VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e6;
}

/** Reads what it is given from beginning to end, and keeps its digest. */
let readBack: { readonly digest: string; readonly bytes: number; readonly seconds: number } | undefined;
const reading: Transport = {
  supports: { lookUp: false, readBack: false },
  batch: { maxInstances: 1, maxBytes: 1 },
  send: async ([outgoing]: readonly OutgoingInstance[]) => {
    if (outgoing === undefined) return [];
    const began = performance.now();
    const { digest, bytes } = await readAndDigest(outgoing.open());
    readBack = { digest, bytes, seconds: (performance.now() - began) / 1_000 };
    return [{ kind: 'stored' }];
  },
  probe: async () => ({ alive: true }),
  lookUp: async () => null,
  readBack: async () => null,
  close: async () => {},
};

await using spillway = await openSpillway({
  store: fileStore({ directory }),
  destinations: [{ id: 'pacs', transport: reading }],
});
const began = performance.now();
const receipt = await spillway.accept(instance());
const acceptedIn = (performance.now() - began) / 1_000;
await spillway.drained();
if (readBack?.digest !== receipt.digest || readBack.bytes !== receipt.bytes) throw new Error('other bytes came back');
console.log(
  JSON.stringify({
    bytes: receipt.bytes,
    acceptSeconds: acceptedIn,
    readSeconds: readBack.seconds,
    peakMb: peakMb(),
  }),
);
