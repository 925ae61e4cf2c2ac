/**
 * A test PACS as a process of its own: `node pacs-main.ts --directory DIR --port N [--latency-ms N]`. Prints one line
 * of JSON, `{"port":…}`, once it listens, and ends on SIGTERM.
 */
import { parseArgs } from 'node:util';
import { SpillwayError } from '../errors.ts';
import { startPacs } from './pacs.ts';

const { values } = parseArgs({
  options: {
    directory: { type: 'string' },
    port: { type: 'string', default: '0' },
    'latency-ms': { type: 'string', default: '0' },
  },
});
if (values.directory === undefined) {
  throw new SpillwayError('SPILLWAY_OPTION_INVALID', 'Expected --directory DIR, got none.');
}
const pacs = await startPacs({
  directory: values.directory,
  port: wholeNumber('port'),
  faults: { latencyMs: wholeNumber('latency-ms') },
});
process.once('SIGTERM', () => void pacs.close().then(() => process.exit(0)));
process.stdout.write(`${JSON.stringify({ port: pacs.port })}\n`);

function wholeNumber(name: 'port' | 'latency-ms'): number {
  const text = values[name];
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new SpillwayError('SPILLWAY_OPTION_INVALID', `Expected --${name} to be a whole number, got "${text}".`);
}
