import { expect, test } from 'vitest';
import { playForReal } from './support/played-for-real.ts';
import { disappointments } from './support/scenario-expectations.ts';
import { scenarioFiles } from './support/scenario-files.ts';

const SEED = 1;
/** What replay does not tell: its slots, its rates, which lane a request was of; nor is it played at fixed concurrency. */
const UNTOLD = ['slots', 'bytesPerSecond', 'tiersInOrder', 'timesBestFixed'];

const REPLAYED = [
  'An outage that ends at once',
  'A PACS that restarts again and again',
  'The listener answers, storage fails',
  'A PACS that takes connections and answers nothing',
  'A PACS that takes one association at a time',
  'A PACS that is killed and restarted in mid-drain, three times',
  '503 to everything, with Retry-After',
  '503 to everything, without a word of when to come back',
  'Answers are lost after the last byte',
  'Answers are lost, and nothing can be asked',
  'A PACS that says success and loses some',
  'A PACS that crashes and forgets its last minutes',
  'Sick instances in the middle of studies',
  'Sick instances with a status that allows another try',
  'Sick instances over which the connection breaks',
  'The event loop stands still for ninety seconds',
  'Planned downtime takes longer than announced',
  'A person takes over an outage that was noticed first',
  'A standby stands in',
  'History goes only at night',
];

// What the simulator's engine does is what the shell does: the same worlds, the same expectations.
test.each(REPLAYED)('%s: replay itself does as expected', async (name) => {
  const file = scenarioFiles().find((one) => one.name === name);
  if (file === undefined) throw new Error(`there is no such scenario: ${name}`);
  const expectations = file.expectations.filter((one) => !UNTOLD.some((key) => key in one));
  const result = await playForReal(file, SEED);
  expect(disappointments(expectations, { result, bestFixedAt: () => Number.NaN })).toEqual([]);
});
