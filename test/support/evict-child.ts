/**
 * A file store that is killed in the middle of an eviction (test/eviction-crash.test.ts), before or after one of its steps:
 * the commit that begins it, the files' removal, the commit that ends it.
 */
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { interceptStore } from '../../src/testing/intercept.ts';
import { instance } from './equal-instances.ts';
import { ScriptedTransport } from './scripted-transport.ts';

const [directory = '', step = '', nth = '1', when = 'before', maxBytes = '0'] = process.argv.slice(2);
const store = fileStore({ directory, maxBytes: Number(maxBytes), minFreeBytes: 0 });
let seen = 0;
const spillway = await openSpillway({
  store: {
    open: async () =>
      interceptStore(await store.open(), async (call, action) => {
        seen += Number(call === step);
        const isIt = call === step && seen === Number(nth);
        if (isIt && when === 'before') process.kill(process.pid, 'SIGKILL');
        const result = await action();
        if (isIt) process.kill(process.pid, 'SIGKILL');
        return result;
      }),
  },
  destinations: [{ id: 'a', transport: new ScriptedTransport(), verify: 'answered' }],
});
const walked = new Promise<void>((resolve) => {
  spillway.on('walked', () => resolve());
});
await walked;
for (const number of [1, 2, 3]) await spillway.accept(instance(1, number));
await spillway.accept(instance(2));
await spillway.drained();
// There is no room: study 1 goes.
await spillway.accept(instance(3));
await spillway.accept(instance(4));
await spillway.close();
