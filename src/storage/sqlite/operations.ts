import type { Catalog } from '../catalog.ts';
import type { CountedPart, EpisodePart } from './episode-count.ts';

/** What the worker carries out: the methods of a `Catalog` as plain synchronous functions, long ones in parts. */
export type CatalogOperations = {
  readonly [Method in Exclude<keyof Catalog, 'durable' | 'close' | 'countEpisode'>]: (
    ...parameters: Parameters<Catalog[Method]>
  ) => Awaited<ReturnType<Catalog[Method]>>;
} & { readonly countEpisodePart: (part: EpisodePart) => CountedPart };
