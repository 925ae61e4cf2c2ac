/** Accepts three instances one after another and says so of each: `node traced-child.ts DIRECTORY`. */
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { syntheticInstance } from '../../src/testing/synthetic.ts';

const [directory = ''] = process.argv.slice(2);
const spillway = await openSpillway({ store: fileStore({ directory }), destinations: [] });
for (const seed of [1, 2, 3]) {
  const uids = { studyInstanceUid: `1.2.${seed}`, seriesInstanceUid: `1.2.${seed}.1` };
  const { arrivalId } = await spillway.accept(syntheticInstance({ rows: 8, columns: 8, seed, ...uids }));
  process.stdout.write(`acknowledged ${arrivalId}\n`);
}
await spillway.close();
