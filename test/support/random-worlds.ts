import fc from 'fast-check';
import { FAULT_KINDS, type Scenario, type TargetFault, type TargetModel } from '../../src/simulator/scenario.ts';

/** All that goes wrong is over by then; afterwards the targets stay good. */
const TROUBLE_ENDS_S = 3_600;
/** Long enough for the longest waits: a flapping one that is held, a look-up that is put off, evidence that is given up. */
const LASTS = '40 h';

const seconds = (min: number, max: number) => fc.integer({ min, max }).map((value) => `${value} s`);
const milliseconds = (min: number, max: number) => fc.integer({ min, max }).map((value) => `${value} ms`);

const fault: fc.Arbitrary<TargetFault> = fc
  .record({
    // What is put back to an earlier state has lost what was verified; only a person finds that out.
    kind: fc.constantFrom(...FAULT_KINDS.filter((kind) => kind !== 'restored')),
    fromS: fc.integer({ min: 0, max: TROUBLE_ENDS_S - 1 }),
    lengthS: fc.integer({ min: 1, max: 1_800 }),
    nth: fc.integer({ min: 1, max: 5 }),
    everyS: fc.option(fc.integer({ min: 20, max: 300 }), { nil: undefined }),
    retryAfter: fc.option(seconds(0, 120), { nil: undefined }),
  })
  .map(({ kind, fromS, lengthS, nth, everyS, retryAfter }) => ({
    kind,
    from: `${fromS} s`,
    to: `${Math.min(TROUBLE_ENDS_S, fromS + lengthS)} s`,
    // An instance that is lost each time it is stored is lost for good.
    nth: kind === 'loses-instances' ? nth + 3 : nth,
    ...(everyS !== undefined && { every: `${everyS} s`, during: `${Math.ceil(everyS / 3)} s` }),
    ...(retryAfter !== undefined && { retryAfter }),
  }));

const target: fc.Arbitrary<TargetModel> = fc.record(
  {
    servers: fc.integer({ min: 1, max: 8 }),
    perInstance: milliseconds(1, 400),
    perMegabyte: milliseconds(0, 50),
    stall: milliseconds(0, 50),
    contention: fc.constantFrom(0, 0.2),
    maxRequests: fc.integer({ min: 1, max: 8 }),
    index: fc.record({ perInstance: milliseconds(0, 20), lag: seconds(0, 120) }),
    timeout: seconds(20, 60),
    maxInstances: fc.integer({ min: 1, max: 20 }),
    canLookUp: fc.constant(true),
    faults: fc.array(fault, { maxLength: 4 }),
    policy: fc.record({ share: fc.record({ history: fc.constantFrom(0, 0.1) }) }),
  },
  { requiredKeys: ['canLookUp'] },
);

const arrivals = fc.record({
  fromS: fc.integer({ min: 0, max: TROUBLE_ENDS_S / 2 }),
  lengthS: fc.integer({ min: 0, max: TROUBLE_ENDS_S / 2 }),
  studies: fc.integer({ min: 1, max: 12 }),
  instances: fc.integer({ min: 1, max: 12 }),
  spacing: seconds(0, 20),
  size: fc.constantFrom('2 kB', '526 kB', '8.4 MB'),
  age: fc.constantFrom('1 min', '3 d', '60 d'),
  urgency: fc.constantFrom('stat' as const, 'unknown' as const, 'routine' as const),
  sick: fc.option(
    fc.record({
      every: fc.integer({ min: 3, max: 20 }),
      how: fc.constantFrom('refused' as const, 'refused-softly' as const, 'spoils' as const),
    }),
    { nil: undefined },
  ),
});

const gateway = fc.oneof(
  fc.record({
    kind: fc.constantFrom('stalls' as const, 'killed' as const, 'disk-full' as const),
    at: seconds(0, TROUBLE_ENDS_S - 600),
    lasts: seconds(1, 300),
  }),
  fc.record({
    kind: fc.constant('clock-jumps' as const),
    at: seconds(0, TROUBLE_ENDS_S),
    by: fc.constantFrom('-1 h', '-10 s', '30 s', '2 h', '2 d'),
  }),
);

/** Small worlds in which much goes wrong for an hour, and nothing afterwards. */
export const randomWorld: fc.Arbitrary<Scenario> = fc
  .record({
    arrivals: fc.array(arrivals, { minLength: 1, maxLength: 4 }),
    targets: fc.array(target, { minLength: 1, maxLength: 2 }),
    gateway: fc.array(gateway, { maxLength: 3 }),
  })
  .map((world) => ({
    name: 'random',
    why: 'whatever happens',
    world: {
      lasts: LASTS,
      arrivals: world.arrivals.map(({ fromS, lengthS, sick, ...rest }, index) => ({
        ...rest,
        label: `a${index}`,
        from: `${fromS} s`,
        until: `${fromS + lengthS} s`,
        ...(sick !== undefined && { sick }),
      })),
      targets: Object.fromEntries(world.targets.map((model, index) => [`t${index}`, model])),
      gateway: world.gateway,
    },
  }));
