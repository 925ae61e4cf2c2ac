import type { ReplayEvents } from './replay/events.ts';
import type { StorageEvents } from './retention/store-keeper.ts';

/** Events by name, each with what its listeners are given. Instants are ms since the epoch. */
export interface SpillwayEvents extends ReplayEvents, StorageEvents {}
