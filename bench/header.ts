// Headers read in a second on one core, against dcmjs on the first 64 KiB up to its pixel data, in the same run.

import { createRequire } from 'node:module';
import { Bench, type Task } from 'tinybench';
import { DicomReader } from '../src/dicom/reader.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { hasRealFiles, readReal } from '../test/support/real-files.ts';

interface Dcmjs {
  readonly data: {
    readonly DicomMessage: {
      readFile(bytes: ArrayBuffer, options: { readonly untilTag: string; readonly noCopy: boolean }): unknown;
    };
  };
  readonly log: { setLevel(level: string): void };
}
// It comes without types.
const dcmjs: Dcmjs = createRequire(import.meta.url)('dcmjs');
dcmjs.log.setLevel('silent');

const WINDOW_BYTES = 64 * 1024;
const TARGET = 5;

const objects: Record<string, Uint8Array> = {
  ct: syntheticInstance({ modality: 'CT', rows: 512, columns: 512, nestedSequence: true }),
  small: syntheticInstance({ modality: 'CR', rows: 16, columns: 16, nestedSequence: true }),
};
// Made-up headers are short; these are as scanners write them.
if (hasRealFiles) {
  objects['real-ct'] = readReal('pydicom/CT_small.dcm');
  objects['real-private'] = readReal(
    'cornerstone3D/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm',
  );
  objects['real-multiframe'] = readReal('pydicom-data/emri_small.dcm');
} else {
  console.log('missing: the folder of real files (../shared/dicom); made-up objects alone are read');
}

async function readHeader(bytes: Uint8Array): Promise<void> {
  const reader = new DicomReader();
  await reader.push(bytes);
  await reader.end();
}

for (const [name, bytes] of Object.entries(objects)) {
  const window = bytes.subarray(0, WINDOW_BYTES);
  const buffer = Uint8Array.from(window).buffer;
  const bench = new Bench({ time: 2_000, warmupTime: 500 });
  bench.add('spillway, first 64 KiB', () => readHeader(window));
  bench.add('spillway, whole object', () => readHeader(bytes));
  bench.add('dcmjs, first 64 KiB', () => {
    dcmjs.data.DicomMessage.readFile(buffer, { untilTag: '7FE00010', noCopy: true });
  });
  await bench.run();
  for (const task of bench.tasks) console.log(`${name}: ${task.name}: ${describe(task)}`);
  const [first = 0, , peer = 0] = bench.tasks.map(rateOf);
  console.log(`ratio header.${name} ${(first / peer).toFixed(2)} target ${TARGET}`);
}

function rateOf(task: Task): number {
  return 1_000 / statisticsOf(task).p50;
}

function statisticsOf(task: Task) {
  const { result } = task;
  if (result?.state !== 'completed') throw new Error(`${task.name} did not complete: ${result?.state}`);
  return result.latency;
}

function describe(task: Task): string {
  const { p50, p75, p99 } = statisticsOf(task);
  const micros = (ms: number) => `${(ms * 1_000).toFixed(1)} µs`;
  return `${Math.round(1_000 / p50)}/s (median ${micros(p50)}, p75 ${micros(p75)}, p99 ${micros(p99)})`;
}
