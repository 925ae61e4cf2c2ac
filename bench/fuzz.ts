// Mutations and truncations of the real files (and of made-up ones): whether any brings the reader down, how long the
// slowest takes, and what they leave in memory. Seeded: the same cases each time.

import { DicomReader } from '../src/dicom/reader.ts';
import { SpillwayError } from '../src/errors.ts';
import { TRANSFER_SYNTAXES, type TransferSyntaxName } from '../src/testing/part10-writer.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { mutated } from '../test/support/mutations.ts';
import { hasRealFiles, readReal, SURVIVAL } from '../test/support/real-files.ts';

const RUNS = 100_000;
const SEED = 7;

const syntaxes = Object.keys(TRANSFER_SYNTAXES) as TransferSyntaxName[];
const seeds = [
  ...syntaxes.map((transferSyntax) => syntheticInstance({ rows: 9, columns: 7, transferSyntax, nestedSequence: true })),
  ...(hasRealFiles ? SURVIVAL.map(([file]) => readReal(file)) : []),
];
if (!hasRealFiles) console.log('missing: the folder of real files (../shared/dicom); made-up ones alone are mutated');

const random = seededRandom(SEED);
const outcomes = new Map<string, number>();
let slowestMs = 0;
let bytesRead = 0;
const began = performance.now();
let rssAtHalf = 0;
for (let run = 0; run < RUNS; run += 1) {
  if (run === RUNS / 2) rssAtHalf = process.memoryUsage().rss;
  const bytes = mutated(seeds[run % seeds.length] ?? Buffer.alloc(0), random);
  bytesRead += bytes.length;
  const start = performance.now();
  const outcome = await outcomeOf(bytes);
  slowestMs = Math.max(slowestMs, performance.now() - start);
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
}
for (const [outcome, count] of [...outcomes].sort(([, a], [, b]) => b - a)) console.log(`${outcome}: ${count}`);
const crashes = [...outcomes]
  .filter(([outcome]) => outcome.startsWith('crash'))
  .reduce((sum, [, count]) => sum + count, 0);
const growth = (process.memoryUsage().rss - rssAtHalf) / 1024 ** 2;
console.log(`${Math.round(bytesRead / 1024 ** 2)} MiB in ${((performance.now() - began) / 1_000).toFixed(1)} s`);
console.log(`figure fuzz.cases ${RUNS} unit cases`);
console.log(`figure fuzz.crashes ${crashes} unit cases`);
console.log(`figure fuzz.slowest ${slowestMs.toFixed(1)} unit ms`);
console.log(`figure fuzz.growth ${growth.toFixed(1)} unit MiB`);
process.exitCode = crashes === 0 ? 0 : 1;

async function outcomeOf(bytes: Uint8Array): Promise<string> {
  const reader = new DicomReader();
  try {
    await reader.push(bytes);
    await reader.end();
    return 'read';
  } catch (error) {
    return error instanceof SpillwayError ? error.code : `crash: ${error}`;
  }
}
