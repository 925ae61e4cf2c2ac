import { blobContract } from './blob-contract.ts';
import { catalogContract } from './catalog-contract.ts';
import type { ContractOptions } from './contract.ts';
import { intakeFaultContract } from './intake-fault-contract.ts';

/**
 * The whole contract of a `Store`: its catalog, its blobs, and both under an intake whose calls fail. Each test gets a
 * store of its own. Loss of power and kills are `powerLossContract` and `killContract`.
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
  intakeFaultContract(options);
}
