import { describe, expect, test } from 'vitest';
import type { EpisodeRecord } from '../src/domain/episode.ts';
import { referenceInstant } from '../src/routing/order.ts';

describe('the instant that ages count from', () => {
  const episode = (endedAt: number | null, drainedAt: number | null): EpisodeRecord => ({
    id: 1,
    destinationId: 'pacs',
    cause: '',
    planned: false,
    expectedEndAt: null,
    planEndedAt: null,
    startedAt: 1,
    detectedAt: 2,
    endedAt,
    drainedAt,
    closedAt: null,
    pendingAtStart: 0,
  });
  test.each([
    ['without an outage it is now', [], 900],
    ['while one lasts it is now', [episode(null, null)], 900],
    ['while its backlog is sent it is its end', [episode(500, null)], 500],
    ['once that is sent it is now', [episode(500, 600)], 900],
    ['of several ends it is the latest', [episode(500, null), episode(700, null), episode(800, 850)], 700],
    ['a new outage makes it now again', [episode(500, null), episode(null, null)], 900],
  ])('%s', (_, episodes, expected) => {
    expect(referenceInstant(episodes, 900, 'outage-end')).toBe(expected);
  });

  test.each([
    ['without an outage it is now', [], 900],
    ['while one lasts it is its start', [episode(null, null)], 1],
    ['while its backlog is sent it is its start', [episode(500, null)], 1],
    ['once that is sent it is now', [episode(500, 600)], 900],
    ['of several it is the earliest', [{ ...episode(500, null), startedAt: 400 }, episode(700, null)], 1],
  ])('from the start of the outage: %s', (_, episodes, expected) => {
    expect(referenceInstant(episodes, 900, 'outage-start')).toBe(expected);
  });

  test('now, or an instant, whatever the outages', () => {
    expect(referenceInstant([episode(500, null)], 900, 'now')).toBe(900);
    expect(referenceInstant([episode(500, null)], 900, 123)).toBe(123);
  });
});
