// Records a real drain of about a minute and draws it: `node bench/drawing/main.ts [RECORDING.json]` writes docs/replay-drain.svg.
// With a recording that is there it is drawn again, without it one is made and kept there.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { draw } from './draw.ts';
import { record } from './record.ts';
import type { Recording } from './recording.ts';

const file = process.argv[2];
let recording: Recording;
if (file !== undefined && existsSync(file)) {
  recording = JSON.parse(readFileSync(file, 'utf8')) as Recording;
} else {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-drawing-'));
  recording = await record(join(directory, 'store')).finally(() => rmSync(directory, { recursive: true, force: true }));
  if (file !== undefined) writeFileSync(file, JSON.stringify(recording));
}
const target = fileURLToPath(new URL('../../docs/replay-drain.svg', import.meta.url));
const svg = draw(recording);
writeFileSync(target, svg);
console.log(
  `${target}: ${svg.length} bytes, ${recording.samples.length} samples over ${recording.seconds.toFixed(0)} s`,
);
for (const { at, label } of recording.marks) console.log(`${at.toFixed(1)} s ${label}`);
