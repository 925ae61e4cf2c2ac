/**
 * Accepts instances, many at once, in a process that may have few files open: `node crowded-child.js DIRECTORY`. Prints
 * `accepted ID DIGEST` and `refused CODE`; then the same, of other instances, one after another, with `later` before it.
 */
import { appendFileSync } from 'node:fs';
import { SpillwayError } from '../../src/errors.ts';
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { numberedInstance } from './numbered-instance.ts';

const [directory = ''] = process.argv.slice(2);
const AT_ONCE = 64;
const LATER = 5;
const say = (line: string) => appendFileSync(1, `${line}\n`);

const spillway = await openSpillway({ store: fileStore({ directory, minFreeBytes: 0 }), destinations: [] });
spillway.on('fault', ({ error }) => say(`fault ${error}`));

const accept = (number: number, when: string) =>
  spillway.accept(numberedInstance(number)).then(
    ({ arrivalId, digest }) => say(`${when}accepted ${arrivalId} ${digest}`),
    (error) => say(`${when}refused ${error instanceof SpillwayError ? error.code : `uncoded ${error}`} ${error}`),
  );

await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => accept(index, '')));
for (let index = 0; index < LATER; index += 1) await accept(AT_ONCE + index, 'later ');
await spillway.close();
