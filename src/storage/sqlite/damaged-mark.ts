import { closeSync, existsSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { syncDirectory } from './decision-log.ts';

/** Notes beside a catalog that it is damaged, since it can be told nothing itself: the next opening rebuilds it. */
export function markDamaged(catalogFile: string): void {
  closeSync(openSync(markOf(catalogFile), 'w', 0o600));
  syncDirectory(dirname(catalogFile));
}

export function isMarkedDamaged(catalogFile: string): boolean {
  return existsSync(markOf(catalogFile));
}

/** It is whole again. Durable: were the mark to come back, what is accepted from here on would be put aside. */
export function unmarkDamaged(catalogFile: string): void {
  rmSync(markOf(catalogFile), { force: true });
  syncDirectory(dirname(catalogFile));
}

function markOf(catalogFile: string): string {
  return `${catalogFile}.damaged`;
}
