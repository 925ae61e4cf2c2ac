import { EVIDENCE } from '../domain/delivery.ts';
import { URGENCIES } from '../domain/rank.ts';
import { SpillwayError } from '../errors.ts';
import { bytes, milliseconds } from './quantity.ts';
import { FAULT_KINDS, type Scenario } from './scenario.ts';

type Check = (value: unknown, place: string) => void;

/**
 * Checks data that claims to be a scenario: what is misspelt would else be a world in which nothing goes wrong.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, naming the place
 */
export function assertScenario(scenario: Scenario): void {
  checkScenario(scenario, 'scenario');
  const ids = Object.keys(scenario.world.targets);
  const labels = scenario.world.arrivals.map(({ label }) => label);
  const named = [
    ...scenario.world.arrivals.flatMap(({ destinations = [] }) => destinations),
    ...(scenario.world.operator ?? []).map(({ destination }) => destination),
    ...Object.values(scenario.world.targets).flatMap(({ standbyFor }) => standbyFor ?? []),
  ];
  for (const id of named) if (!ids.includes(id)) throw wrong('scenario', `one of the targets ${ids.join(', ')}`, id);
  if (new Set(labels).size < labels.length) throw wrong('scenario.world.arrivals', 'labels of their own', labels);
}

function wrong(place: string, expected: string, got: unknown): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${place} to be ${expected}, got ${JSON.stringify(got) ?? String(got)}.`,
  );
}

/** Those of `fields` that end in `!` must be there; no others may. */
function fields(known: Readonly<Record<string, Check>>): Check {
  const checks = new Map(Object.entries(known).map(([key, check]) => [key.replace('!', ''), check]));
  const needed = Object.keys(known).flatMap((key) => (key.endsWith('!') ? [key.slice(0, -1)] : []));
  return (value, place) => {
    const given = entriesOf(value, place);
    for (const [key, one] of given) {
      const check = checks.get(key);
      if (check === undefined) throw wrong(place, `made of ${[...checks.keys()].join(', ')}`, key);
      check(one, `${place}.${key}`);
    }
    const missing = needed.find((key) => !given.some(([name]) => name === key));
    if (missing !== undefined) throw wrong(`${place}.${missing}`, 'given', undefined);
  };
}

function entriesOf(value: unknown, place: string): readonly (readonly [string, unknown])[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(place, 'an object', value);
  return Object.entries(value).filter(([, one]) => one !== undefined);
}

function listOf(check: Check): Check {
  return (value, place) => {
    if (!Array.isArray(value)) throw wrong(place, 'a list', value);
    value.forEach((one, index) => {
      check(one, `${place}[${index}]`);
    });
  };
}

/** One, or a list of them. */
function some(check: Check): Check {
  return (value, place) => (Array.isArray(value) ? listOf(check) : check)(value, place);
}

function oneOf(...values: readonly string[]): Check {
  return (value, place) => {
    if (typeof value !== 'string' || !values.includes(value)) throw wrong(place, `one of ${values.join(', ')}`, value);
  };
}

const text: Check = (value, place) => {
  if (typeof value !== 'string' || value === '') throw wrong(place, 'a text', value);
};
const truth: Check = (value, place) => {
  if (typeof value !== 'boolean') throw wrong(place, 'true or false', value);
};
const part: Check = (value, place) => {
  if (typeof value !== 'number' || !(value >= 0)) throw wrong(place, 'a number from 0 on', value);
};
const count: Check = (value, place) => {
  if (!Number.isInteger(value) || Number(value) < 1) throw wrong(place, 'a whole number from 1 on', value);
};
const time: Check = (value) => {
  milliseconds(String(value));
};
const size: Check = (value) => {
  bytes(String(value));
};
const instant: Check = (value, place) => {
  if (Number.isNaN(Date.parse(String(value)))) throw wrong(place, 'an instant in ISO 8601', value);
};
const point: Check = (value, place) => {
  if (!Array.isArray(value) || value.length !== 2) throw wrong(place, 'an instant and a factor', value);
  time(value[0], place);
  part(value[1], place);
};
const anything: Check = (value, place) => {
  entriesOf(value, place);
};
const byName =
  (check: Check): Check =>
  (value, place) => {
    for (const [key, one] of entriesOf(value, place)) check(one, `${place}.${key}`);
  };

const sick = fields({ 'every!': count, 'how!': oneOf('refused', 'refused-softly', 'spoils') });

const arrivals = fields({
  'label!': text,
  ...{ from: time, until: time, studies: count, perHour: part, instances: some(count), spacing: time },
  ...{ size: some(size), age: some(time), urgency: oneOf(...URGENCIES), destinations: listOf(text), sick },
});

const fault = fields({
  'kind!': oneOf(...FAULT_KINDS),
  'from!': time,
  ...{ to: time, every: time, during: time, nth: count, retryAfter: time, since: time },
});

const target = fields({
  ...{ servers: count, perRequest: time, perInstance: time, perMegabyte: time, stall: time, noise: part },
  ...{ contention: part, speed: listOf(point), maxRequests: count, faults: listOf(fault) },
  whenFull: oneOf('asks-for-less', 'resets'),
  index: fields({ 'perInstance!': time, slowAbove: count, speed: part, lag: time }),
  ...{ timeout: time, roundTrip: time, maxInstances: count, maxBytes: size, canLookUp: truth, canReadBack: truth },
  ...{ verify: oneOf(...EVIDENCE.slice(1)), standbyFor: text },
  policy: fields({ health: anything, flow: anything, share: anything, retry: anything }),
});

const happening = fields({
  'kind!': oneOf('stalls', 'killed', 'disk-full', 'clock-jumps'),
  'at!': time,
  ...{ lasts: time, by: time },
});
const befalls: Check = (value, place) => {
  happening(value, place);
  const given = entriesOf(value, place).map(([key]) => key);
  const needed = given.includes('by') ? 'clock-jumps' : 'stalls, killed or disk-full';
  if (given.length !== 3) throw wrong(place, 'given with `lasts`, or with `by` for clock-jumps', value);
  const kind = entriesOf(value, place).find(([key]) => key === 'kind')?.[1];
  if (given.includes('by') !== (kind === 'clock-jumps')) throw wrong(`${place}.kind`, needed, kind);
};

const act = fields({
  'kind!': oneOf('declares-outage', 'ends-outage'),
  'at!': time,
  'destination!': text,
  ...{ reason: text, expectedEnd: time },
});

const checkScenario = fields({
  'name!': text,
  'why!': text,
  'world!': fields({
    startAt: instant,
    'lasts!': time,
    'arrivals!': listOf(arrivals),
    'targets!': byName(target),
    gateway: listOf(befalls),
    operator: listOf(act),
  }),
});
