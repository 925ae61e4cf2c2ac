import { SpillwayError } from './errors.ts';
import { checkWhich } from './options.ts';
import type { DestinationReplayer } from './replay/destination-replayer.ts';
import type { Catalog } from './storage/catalog.ts';
import type { Destination } from './transports/transport.ts';

const PAGE_SIZE = 500;

export interface DestinationGroupOptions {
  readonly destinations: readonly Destination[];
  readonly catalog: Catalog;
  /** Makes what sends to a destination. */
  readonly replayer: (destination: Destination) => DestinationReplayer;
  /** What was taken in so far is committed. */
  readonly flush: () => Promise<void>;
  readonly isClosing: () => boolean;
}

/** The destinations of an open spillway: which are in use, and which stands by for which. */
export class DestinationGroup {
  readonly #options: DestinationGroupOptions;
  readonly #replayers: ReadonlyMap<string, DestinationReplayer>;
  readonly #standbyFor: ReadonlyMap<string, string | undefined>;
  readonly #retired = new Set<string>();

  constructor(options: DestinationGroupOptions) {
    this.#options = options;
    const { destinations, replayer } = options;
    this.#replayers = new Map(destinations.map((destination) => [destination.id, replayer(destination)]));
    this.#standbyFor = new Map(destinations.map(({ id, standbyFor }) => [id, standbyFor]));
  }

  /** All, retired ones too. */
  get all(): Iterable<DestinationReplayer> {
    return this.#replayers.values();
  }

  get inUse(): readonly DestinationReplayer[] {
    return [...this.#replayers.values()].filter(({ id }) => !this.#retired.has(id));
  }

  get isAnyDown(): boolean {
    return this.inUse.some(({ isDown }) => isDown);
  }

  /** Also of one that is retired. */
  get(destinationId: string): DestinationReplayer | undefined {
    return this.#replayers.get(destinationId);
  }

  /** @throws SpillwayError `SPILLWAY_NOT_FOUND` */
  require(destinationId: string): DestinationReplayer {
    const replayer = this.#retired.has(destinationId) ? undefined : this.#replayers.get(destinationId);
    if (replayer !== undefined) return replayer;
    throw new SpillwayError(
      'SPILLWAY_NOT_FOUND',
      `Expected the id of a destination in use, got "${destinationId}". Nothing was changed.`,
    );
  }

  /** The one that is named, or all in use. */
  which(which: { readonly destinationId?: string }): readonly DestinationReplayer[] {
    const { destinationId } = checkWhich(which);
    return destinationId === undefined ? this.inUse : [this.require(destinationId)];
  }

  /** It receives nothing more from now on. */
  retire(destinationId: string): void {
    this.#retired.add(destinationId);
  }

  unretire(destinationId: string): void {
    this.#retired.delete(destinationId);
  }

  /** A standby receives while the destination that it stands by for, and that is routed to as well, does not. */
  receives(destinationId: string, routed: readonly string[]): boolean {
    if (this.#retired.has(destinationId)) return false;
    const primary = this.#standbyFor.get(destinationId);
    if (primary === undefined || !routed.includes(primary) || this.#retired.has(primary)) return true;
    return this.#replayers.get(primary)?.isDown ?? true;
  }

  /** What is open at a destination that is down is owed to its standbys as well. */
  async takeOver(primary: string): Promise<void> {
    const standbys = this.inUse.filter(({ id }) => this.#standbyFor.get(id) === primary);
    if (standbys.length === 0) return;
    // What was routed before the outage was declared is committed first.
    await this.#options.flush();
    for (const standby of standbys) await this.#copyOpen(primary, standby);
  }

  async #copyOpen(primary: string, standby: DestinationReplayer): Promise<void> {
    const { catalog, isClosing } = this.#options;
    for (let afterId: number | null = 0; afterId !== null && !isClosing(); ) {
      const copy = { from: primary, to: standby.id, afterId, limit: PAGE_SIZE };
      const page: { readonly next: number | null } = await catalog.copyOpenDeliveries(copy);
      afterId = page.next;
      standby.changed();
    }
  }
}
