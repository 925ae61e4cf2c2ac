import { blobContract } from './blob-contract.ts';
import { catalogContract } from './catalog-contract.ts';
import type { ContractOptions } from './contract.ts';

/**
 * The whole contract of a `Store`: its catalog and its blobs. Each test gets a store of its own.
 *
 * @example
 * ```ts
 * import { test } from 'node:test';
 * import { memoryStore } from 'spillway';
 * import { storeContract } from 'spillway/testing';
 *
 * storeContract({ test, makeStore: async () => ({ store: memoryStore(), dispose: async () => {} }) });
 * ```
 */
export function storeContract(options: ContractOptions): void {
  catalogContract(options);
  blobContract(options);
}
