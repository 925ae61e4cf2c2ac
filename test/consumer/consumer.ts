// A stranger's project: scripts/check-package.ts installs the packed tarball beside this file, type-checks it against
// the declarations shipped, and runs it. It uses nothing but the package's public names.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dicomwebDestination, fileStore, memoryStore, openSpillway, SpillwayError } from 'spillway';
import { createStowHandler } from 'spillway/handler';
import { storeContract, syntheticInstance } from 'spillway/testing';
import { classify, defaultTierPolicy } from 'spillway/tiers';

for (const [name, value] of Object.entries({
  openSpillway,
  fileStore,
  memoryStore,
  dicomwebDestination,
  SpillwayError,
  createStowHandler,
  classify,
  storeContract,
  syntheticInstance,
})) {
  assert.equal(typeof value, 'function', `${name} is a function`);
}
assert.notEqual(defaultTierPolicy, undefined);

// Opening a file store starts the SQLite worker, which must be found inside the installed package.
const directory = await mkdtemp(join(tmpdir(), 'spillway-consumer-'));
try {
  const store = await fileStore({ directory }).open();
  assert.equal(store.catalog.durable, true);
  assert.equal(await store.catalog.lastArrivalId(), null);
  await store.close();
} finally {
  await rm(directory, { recursive: true, force: true });
}

console.log(`consumer ok on Node ${process.versions.node}`);
