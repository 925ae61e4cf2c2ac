/** When the child of a kill ends itself; the parent gives it with `ORDERS_VARIABLE`, as JSON. */
export interface KillOrders {
  /** Numbers the instances that it makes up: others in each life. */
  readonly seed: number;
  /** The step, which of its occurrences, and whether before or after; null where the parent kills. */
  readonly at: { readonly step: string; readonly occurrence: number; readonly moment: 'before' | 'after' } | null;
  /** What the destination has received, a line `<SOP Instance UID> <digest>` for each time. */
  readonly receivedFile: string;
}

export const ORDERS_VARIABLE = 'SPILLWAY_KILL_ORDERS';
/** Receipts go out by this file descriptor: a line `<arrival id> <digest>` for each. */
export const RECEIPTS_DESCRIPTOR = 3;
export const DESTINATION_ID = 'pacs';

/**
 * The steps that `intakeUntilKilled` names for any store: calls of its contracts, `receive` (the destination records an
 * instance) and `acknowledge` (the receipt is told).
 */
export const KILL_STEPS = [
  'blobs.recover',
  'blobs.create',
  'writer.write',
  'writer.place',
  'catalog.accept',
  'writer.release',
  'writer.abort',
  'catalog.leaseStudies',
  'receive',
  'catalog.settle',
  'acknowledge',
] as const;
