import { describe, expect, test } from 'vitest';
import { play, scenarioFiles } from './support/scenario-files.ts';

const SEED = 1;

describe.each(scenarioFiles().map((file) => [file.name, file] as const))('%s', (_, file) => {
  test('goes as expected', () => {
    expect(play(file, SEED)).toEqual([]);
  });

  if (file.without !== undefined) {
    const { fails, ...change } = file.without;
    test(`${JSON.stringify(change)} would disappoint ${fails}`, () => {
      expect(play(file, SEED, change).some((one) => one.startsWith(`{"${fails}"`))).toBe(true);
    });
  }
});
