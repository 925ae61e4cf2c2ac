/** Accepts instances as fast as it can and prints each receipt, until it is killed: `node intake-child.ts DIR SEED`. */
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { syntheticInstance } from '../../src/testing/synthetic.ts';

const [directory = '', seed = '0'] = process.argv.slice(2);
const spillway = await openSpillway({ store: fileStore({ directory }), destinations: [] });
let next = Number(seed);
const worker = async () => {
  for (;;) {
    next += 1;
    const bytes = syntheticInstance({ rows: 64, columns: 64, seed: next, studyInstanceUid: `1.2.${next % 7}` });
    const { arrivalId, digest } = await spillway.accept(bytes);
    process.stdout.write(`${JSON.stringify({ arrivalId, digest })}\n`);
  }
};
await Promise.all(Array.from({ length: 8 }, worker));
