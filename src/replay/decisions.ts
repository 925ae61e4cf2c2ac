import type { AbortableOptions } from '../domain/abort.ts';
import type { Delivery, DeliveryFilter, DeliveryState } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import type { Catalog } from '../storage/catalog.ts';

const PAGE_SIZE = 500;

/** Which deliveries a person decides about: all that is given must hold, and something must be given. */
export interface DeliverySelection extends DeliveryFilter {
  /** By arrival ids, as `quarantined` lists them. */
  readonly arrivalIds?: readonly string[] | undefined;
  /** Instead of everything else: all there are. */
  readonly all?: true | undefined;
}

/** Which quarantined deliveries are tried again, and who says so. */
export interface RedriveOptions extends DeliverySelection, AbortableOptions {
  /** A person's name, or the program that decides; it stays on record. */
  readonly by: string;
}

/** What became of quarantined deliveries that were to be tried again. */
export interface RedriveReport {
  /** Pending again. */
  readonly redriven: number;
  /** Left as they are: a later version of the instance was sent there, which the earlier one would replace. */
  readonly superseded: number;
  /** Left as they are: their bytes are not here any more. */
  readonly unavailable: number;
}

/** Which deliveries are given up, why, and who says so. */
export interface DiscardOptions extends Omit<DeliverySelection, 'reason'>, AbortableOptions {
  /** `open`: what is still to be sent, or waits for its evidence. @default 'quarantined' */
  readonly state?: 'quarantined' | 'open' | undefined;
  /** Why they are given up; it stays on record. To go by the reason of quarantine, list them and give `arrivalIds`. */
  readonly reason: string;
  /** A person's name, or the program that decides; it stays on record. */
  readonly by: string;
}

export interface DecisionContext {
  readonly catalog: Catalog;
  /** Those that the decision is about. */
  readonly destinationIds: readonly string[];
  readonly now: () => number;
  /** Deliveries to a destination are owed again. */
  readonly onOwed: (destinationId: string) => void;
  /** Runs `giveUp`, which returns what has ended, while none of these deliveries is in flight or begun. */
  readonly givingUp: (
    destinationId: string,
    deliveryIds: readonly number[],
    signal: AbortSignal | undefined,
    giveUp: () => Promise<readonly number[]>,
  ) => Promise<readonly number[]>;
}

/** Has quarantined deliveries tried again, page by page; what was done before an abort stands. */
export async function redrive(
  { catalog, destinationIds, now, onOwed }: DecisionContext,
  { by, signal, ...selection }: RedriveOptions,
): Promise<RedriveReport> {
  const report = { redriven: 0, superseded: 0, unavailable: 0 };
  for (const destinationId of destinationIds) {
    for await (const deliveryIds of selected(catalog, destinationId, 'quarantined', selection)) {
      assertGoesOn(signal, 'Redriving', report.redriven);
      const { redriven, superseded } = await catalog.redrive({ destinationId, deliveryIds, by, at: now() });
      report.redriven += redriven.length;
      report.superseded += superseded.length;
      report.unavailable += deliveryIds.length - redriven.length - superseded.length;
      if (redriven.length > 0) onOwed(destinationId);
    }
  }
  return report;
}

/**
 * Gives deliveries up, page by page; what was done before an abort stands. Returns how many. What is in flight is waited
 * for, and given up unless it was verified by that.
 */
export async function discard(
  { catalog, destinationIds, now, givingUp }: DecisionContext,
  { by, reason, state = 'quarantined', signal, ...selection }: DiscardOptions,
): Promise<number> {
  // What is found missing while those that are sent are gone through is pending again.
  const states: readonly DeliveryState[] = state === 'open' ? ['pending', 'sent', 'pending'] : ['quarantined'];
  let count = 0;
  for (const destinationId of destinationIds) {
    for (const each of states) {
      for await (const deliveryIds of selected(catalog, destinationId, each, selection)) {
        assertGoesOn(signal, 'Discarding', count);
        const discarded = await givingUp(destinationId, deliveryIds, signal, () =>
          catalog.discard({ destinationId, deliveryIds, reason, by, at: now() }),
        );
        count += discarded.length;
      }
    }
  }
  return count;
}

/** Deliveries to one destination in one state, page by page. */
export async function* deliveriesOf(
  catalog: Catalog,
  destinationId: string,
  state: DeliveryState,
  filter: DeliveryFilter,
): AsyncGenerator<readonly Delivery[]> {
  for (let afterId: number | null = 0; afterId !== null; ) {
    const page: Awaited<ReturnType<Catalog['deliveries']>> = await catalog.deliveries({
      ...filter,
      destinationId,
      state,
      afterId,
      limit: PAGE_SIZE,
    });
    if (page.deliveries.length > 0) yield page.deliveries;
    afterId = page.next;
  }
}

async function* selected(
  catalog: Catalog,
  destinationId: string,
  state: DeliveryState,
  { arrivalIds, all: _, ...filter }: DeliverySelection,
): AsyncGenerator<readonly number[]> {
  if (arrivalIds === undefined) {
    for await (const page of deliveriesOf(catalog, destinationId, state, filter)) yield page.map(({ id }) => id);
    return;
  }
  const unique = [...new Set(arrivalIds)];
  for (let start = 0; start < unique.length; start += PAGE_SIZE) {
    const ids: number[] = [];
    for (const arrivalId of unique.slice(start, start + PAGE_SIZE)) {
      const delivery = await deliveryOf(catalog, destinationId, state, arrivalId, filter);
      if (delivery !== undefined) ids.push(delivery.id);
    }
    if (ids.length > 0) yield ids;
  }
}

/** By the SOP Instance UID of its version, by which the catalog finds it. */
async function deliveryOf(
  catalog: Catalog,
  destinationId: string,
  state: DeliveryState,
  arrivalId: string,
  filter: DeliveryFilter,
): Promise<Delivery | undefined> {
  const sopInstanceUid = (await catalog.acceptanceOf(arrivalId))?.version.identity.sopInstanceUid;
  if (sopInstanceUid === undefined || (filter.sopInstanceUid ?? sopInstanceUid) !== sopInstanceUid) return undefined;
  for await (const page of deliveriesOf(catalog, destinationId, state, { ...filter, sopInstanceUid })) {
    const delivery = page.find((each) => each.arrivalId === arrivalId);
    if (delivery !== undefined) return delivery;
  }
  return undefined;
}

function assertGoesOn(signal: AbortSignal | undefined, what: string, done: number): void {
  if (!signal?.aborted) return;
  throw new SpillwayError(
    'SPILLWAY_ABORTED',
    `${what} was aborted by its signal after ${done} deliveries, which stand.`,
    {
      cause: signal.reason,
    },
  );
}
