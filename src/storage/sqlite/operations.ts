import type { Catalog } from '../catalog.ts';

/** What the worker carries out: the methods of a `Catalog` as plain synchronous functions. */
export type CatalogOperations = {
  readonly [Method in Exclude<keyof Catalog, 'durable' | 'close'>]: (
    ...parameters: Parameters<Catalog[Method]>
  ) => Awaited<ReturnType<Catalog[Method]>>;
};
