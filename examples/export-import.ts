// Studies to plain folders and back: `node examples/export-import.ts`. Made-up studies stand in for yours.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileStore, formatBytes, openSpillway } from '../src/index.ts';
import { syntheticStudy } from '../src/testing/index.ts';

const root = await mkdtemp(join(tmpdir(), 'spillway-export-'));
const disk = join(root, 'disk');

const gateway = await openSpillway({ store: fileStore({ directory: join(root, 'gateway') }), destinations: [] });
for (const seed of [1, 2]) {
  for (const instance of syntheticStudy({ seed, instances: 12, acquiredAt: Date.now(), rows: 64, columns: 64 }))
    await gateway.accept(instance.bytes);
}
const exported = await gateway.exportStudies({
  directory: disk,
  onInstance: ({ outcome, path, problem }) => {
    if (problem !== null) console.warn(outcome, path, problem);
  },
});
const { written, studies, bytes, manifest } = exported;
console.log(`${written} instances of ${studies} studies, ${formatBytes(bytes)}, are in ${disk}`);
console.log((await readFile(manifest, 'utf8')).split('\n').slice(0, 2).join('\n'));
await gateway.close();

const other = await openSpillway({ store: fileStore({ directory: join(root, 'other') }), destinations: [] });
const imported = await other.importStudies({
  directory: disk,
  source: 'disk',
  onFile: (file) => {
    if (file.outcome === 'refused') console.warn(file.path, file.error.message);
  },
});
console.log('imported', JSON.stringify(imported));
await other.close();
await rm(root, { recursive: true });
