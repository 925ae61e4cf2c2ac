import type { BlobStore, BlobWriter } from '../storage/blob-store.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { OpenStore } from '../storage/store.ts';

/** Comes between a call of a store and what it does: `action` is the call itself. */
export type Intercept = <T>(call: string, action: () => Promise<T>) => Promise<T>;

/**
 * A store of which every call that returns a promise goes through `intercept`, under the name of its contract and its
 * method: `blobs.create`, `writer.write`, `writer.place`, `catalog.accept`, ….
 */
export function interceptStore(store: OpenStore, intercept: Intercept): OpenStore {
  return {
    ...store,
    catalog: interceptCatalog(store.catalog, intercept),
    blobs: interceptBlobs(store.blobs, intercept),
    close: () => store.close(),
  };
}

export function interceptCatalog(catalog: Catalog, intercept: Intercept): Catalog {
  return new Proxy(catalog, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...parameters: unknown[]) =>
        intercept(`catalog.${String(name)}`, async () => Reflect.apply(value, target, parameters));
    },
  });
}

function interceptBlobs(blobs: BlobStore, intercept: Intercept): BlobStore {
  return {
    create: async () => interceptWriter(await intercept('blobs.create', () => blobs.create()), intercept),
    read: (ref) => blobs.read(ref),
    has: (ref) => intercept('blobs.has', () => blobs.has(ref)),
    setAside: (ref) => intercept('blobs.setAside', () => blobs.setAside(ref)),
    countHeld: (bytes) => blobs.countHeld?.(bytes),
    room: () => intercept('blobs.room', () => blobs.room()),
    list: () => blobs.list(),
    remove: (ref) => intercept('blobs.remove', () => blobs.remove(ref)),
    recover: (isKnown) => intercept('blobs.recover', () => blobs.recover(isKnown)),
  };
}

function interceptWriter(writer: BlobWriter, intercept: Intercept): BlobWriter {
  return {
    write: (chunk) => intercept('writer.write', () => writer.write(chunk)),
    beginSync: () => writer.beginSync(),
    place: (placement) => intercept('writer.place', () => writer.place(placement)),
    release: () => intercept('writer.release', () => writer.release()),
    abort: () => intercept('writer.abort', () => writer.abort()),
  };
}
