// The README's example against a test PACS: `node examples/ten-lines.ts`.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dicomwebDestination, fileStore, openSpillway } from '../src/index.ts';
import { startPacs, syntheticInstance } from '../src/testing/index.ts';

const directory = await mkdtemp(join(tmpdir(), 'spillway-ten-lines-'));
const pacs = await startPacs({ directory: join(directory, 'pacs') });
const image = join(directory, 'image.dcm');
await writeFile(image, syntheticInstance());

const spillway = await openSpillway({
  store: fileStore({ directory: join(directory, 'spill') }),
  destinations: [dicomwebDestination({ id: 'pacs', url: pacs.url })],
});
const receipt = await spillway.accept(image); // durable from here on, PACS or no PACS
console.log(receipt.outcome, receipt.tierReason);
await spillway.drained(); // waits an outage out
console.log((await spillway.status()).destinations[0]?.verified, 'verified at the PACS');
await spillway.close();

await pacs.close();
await rm(directory, { recursive: true });
