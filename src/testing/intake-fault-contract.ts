import assert from 'node:assert/strict';
import type { ContractOptions } from './contract.ts';
import { type Fault, IntakeRig } from './intake-fault/intake-rig.ts';

interface Case {
  readonly name: string;
  readonly faults: readonly Fault[];
  /** What the sender is told: a receipt, or an error with a code. */
  readonly told: 'created' | 'SPILLWAY_STORE_FULL' | 'SPILLWAY_STORE_FAILED';
  /** What stays until the next opening: nothing, what that removes, or a row that was committed all the same. */
  readonly leaves: 'nothing' | 'in flight' | 'row';
}

const FULL = 'SPILLWAY_STORE_FULL';
const FAILED = 'SPILLWAY_STORE_FAILED';

/** A call that fails on the way to the commit: the instance is refused, and `abort` takes back all there is of it. */
function refusals(call: string, moments: readonly Fault['moment'][], codes: readonly Fault['code'][]): readonly Case[] {
  return moments.flatMap((moment) =>
    codes.map((code): Case => {
      const name = `${call} fails ${moment} it is done (${code}): refused, nothing stays`;
      return { name, faults: [{ call, moment, code }], told: code, leaves: 'nothing' };
    }),
  );
}

const CASES: readonly Case[] = [
  ...refusals('blobs.create', ['before'], [FULL, FAILED]),
  ...refusals('writer.write', ['before', 'after'], [FULL, FAILED]),
  {
    name: 'writer.write fails in the middle of an instance: refused, nothing stays',
    faults: [{ call: 'writer.write', moment: 'before', code: FULL, occurrence: 3 }],
    told: FULL,
    leaves: 'nothing',
  },
  ...refusals('catalog.findVersion', ['before'], [FAILED]),
  ...refusals('writer.place', ['before', 'after'], [FULL, FAILED]),
  // There was no room, so that it is known not to be there.
  ...refusals('catalog.accept', ['before'], [FULL]),
  {
    name: 'catalog.accept fails before it is done: refused, and the blob is left to the next opening',
    faults: [{ call: 'catalog.accept', moment: 'before', code: FAILED }],
    told: FAILED,
    leaves: 'in flight',
  },
  {
    name: 'catalog.accept fails after it is done: the catalog is asked, and it is accepted',
    faults: [{ call: 'catalog.accept', moment: 'after', code: FAILED }],
    told: 'created',
    leaves: 'row',
  },
  {
    name: 'catalog.accept fails after it is done, and cannot be asked: refused, and there when it is sent again',
    faults: [
      { call: 'catalog.accept', moment: 'after', code: FAILED },
      { call: 'catalog.findVersion', moment: 'before', code: FAILED, occurrence: 2 },
    ],
    told: FAILED,
    leaves: 'row',
  },
  ...(['before', 'after'] as const).map(
    (moment): Case => ({
      name: `writer.release fails ${moment} it is done: accepted all the same, and kept by the next opening`,
      faults: [{ call: 'writer.release', moment, code: FAILED }],
      told: 'created',
      leaves: 'row',
    }),
  ),
];

/**
 * Calls of a `Store` that fail under the intake, each in turn: the sender is told with a code, nothing of a refused
 * instance stays (at the latest after the next opening), the same instance is accepted when it is sent again, and what
 * was accepted before is there. The failures are put before and behind the store's own calls; those of its medium need
 * the medium. `storeContract` has these tests too.
 *
 * @example
 * intakeFaultContract({ test, makeStore: async () => ({ store: myStore(), dispose: async () => {} }) });
 */
export function intakeFaultContract({ test, makeStore }: ContractOptions): void {
  const faultTest = (name: string, run: (rig: IntakeRig) => Promise<void>) =>
    test(`intake: ${name}`, async () => {
      const { store, dispose } = await makeStore();
      try {
        const rig = await IntakeRig.open(store);
        try {
          await run(rig);
        } finally {
          await rig.close();
        }
      } finally {
        await dispose();
      }
    });

  for (const { name, faults, told, leaves } of CASES) {
    faultTest(name, async (rig) => {
      await rig.accepts(1, 'created');
      rig.arm(faults);
      if (told === 'created') await rig.accepts(2, 'created');
      else await rig.refuses(2, told);
      rig.assertCameAbout();
      if (leaves === 'nothing') await rig.assertStanding();
      await rig.accepts(2, told !== 'created' && leaves !== 'row' ? 'created' : 'identical');
      await rig.accepts(3, 'created');
      const removed = await rig.reopen();
      assert.equal(removed, leaves === 'in flight' ? 1 : 0, 'blobs that were in flight at the opening');
      await rig.assertStanding();
    });
  }

  faultTest('writer.abort fails: the reason of the refusal is told, and the next opening removes it', async (rig) => {
    await rig.accepts(1, 'created');
    rig.arm([{ call: 'writer.abort', moment: 'before', code: FAILED }]);
    await rig.refusesIncomplete(2);
    rig.assertCameAbout();
    assert.equal(rig.faults.length, 1, 'a fault is told of');
    await rig.accepts(2, 'created');
    assert.equal(await rig.reopen(), 1, 'blobs that were in flight at the opening');
    await rig.assertStanding();
  });

  for (const call of ['catalog.restateUrgency']) {
    faultTest(`${call} fails when an instance comes again: refused, and what stands stays`, async (rig) => {
      await rig.accepts(1, 'created');
      rig.arm([{ call, moment: 'before', code: FAILED }]);
      await rig.refuses(1, FAILED);
      rig.assertCameAbout();
      await rig.assertStanding();
      await rig.accepts(1, 'identical');
      assert.equal(await rig.reopen(), 0, 'blobs that were in flight at the opening');
      await rig.assertStanding();
    });
  }
}
