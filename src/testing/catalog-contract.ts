import { acceptanceChecks, versionChecks } from './catalog/acceptance-checks.ts';
import { commitmentChecks } from './catalog/commitment-checks.ts';
import {
  discardChecks,
  redriveChecks,
  redriveOrderChecks,
  retiredChecks,
  returnChecks,
} from './catalog/decision-checks.ts';
import {
  dueChecks,
  filterChecks,
  furtherVersionChecks,
  listingChecks,
  settlementChecks,
} from './catalog/delivery-checks.ts';
import { destinationChecks, failureChecks } from './catalog/destination-checks.ts';
import {
  endedPlanChecks,
  episodeChecks,
  episodeListChecks,
  episodeMarkChecks,
  plannedChecks,
  tierChecks,
} from './catalog/episode-checks.ts';
import {
  crashedEvictionChecks,
  evictionChecks,
  evictionOrderChecks,
  evictionReasonChecks,
  evictionTermChecks,
} from './catalog/eviction-checks.ts';
import { instantChecks, raiseChecks, recentChecks } from './catalog/evidence-checks.ts';
import type { Check } from './catalog/fixtures.ts';
import { holdingChecks, hourChecks, searchChecks } from './catalog/holding-checks.ts';
import { boundChecks, clarifiedChecks, laneChecks } from './catalog/lane-checks.ts';
import { leaseChecks, restartChecks } from './catalog/lease-checks.ts';
import { logChecks, loggedChecks } from './catalog/log-checks.ts';
import { randomOperations } from './catalog/random-operations.ts';
import { rankChecks, rankingChecks, rankingFactChecks } from './catalog/rank-checks.ts';
import {
  deliveryRestorationChecks,
  rankRestorationChecks,
  restorationChecks,
  versionRestorationChecks,
} from './catalog/restoration-checks.ts';
import { standbyChecks } from './catalog/standby-checks.ts';
import { foundAgainChecks, missingChecks, walkChecks } from './catalog/walk-checks.ts';
import type { ContractOptions } from './contract.ts';

/**
 * Registers the tests that every `Catalog` passes, one for each promise of its interface.
 *
 * @example
 * catalogContract({ test, makeStore: async () => ({ store: myStore(), dispose: async () => {} }) });
 */
export function catalogContract(options: ContractOptions): void {
  const check: Check = (name, run) =>
    options.test(`catalog: ${name}`, async () => {
      const { store, dispose } = await options.makeStore();
      let opened = await store.open();
      try {
        await opened.catalog.registerDestination('pacs');
        await opened.catalog.registerDestination('archive');
        await run({
          catalog: opened.catalog,
          async reopen() {
            await opened.close();
            opened = await store.open();
            return opened.catalog;
          },
        });
      } finally {
        await opened.close();
        await dispose();
      }
    });
  acceptanceChecks(check);
  versionChecks(check);
  rankChecks(check);
  rankingChecks(check);
  rankingFactChecks(check);
  leaseChecks(check);
  laneChecks(check);
  boundChecks(check);
  clarifiedChecks(check);
  restartChecks(check);
  settlementChecks(check);
  dueChecks(check);
  furtherVersionChecks(check);
  listingChecks(check);
  filterChecks(check);
  redriveChecks(check);
  redriveOrderChecks(check);
  retiredChecks(check);
  discardChecks(check);
  returnChecks(check);
  instantChecks(check);
  raiseChecks(check);
  recentChecks(check);
  standbyChecks(check);
  destinationChecks(check);
  episodeChecks(check);
  episodeMarkChecks(check);
  plannedChecks(check);
  endedPlanChecks(check);
  tierChecks(check);
  episodeListChecks(check);
  failureChecks(check);
  holdingChecks(check);
  searchChecks(check);
  hourChecks(check);
  evictionTermChecks(check);
  evictionReasonChecks(check);
  evictionOrderChecks(check);
  evictionChecks(check);
  crashedEvictionChecks(check);
  restorationChecks(check);
  deliveryRestorationChecks(check);
  rankRestorationChecks(check);
  versionRestorationChecks(check);
  walkChecks(check);
  foundAgainChecks(check);
  missingChecks(check);
  commitmentChecks(check);
  logChecks(check);
  loggedChecks(check);
  check('keeps its balance through random operations', ({ catalog, reopen }) => randomOperations(catalog, reopen));
}
