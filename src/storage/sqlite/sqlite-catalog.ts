import { Worker } from 'node:worker_threads';
import { messageOf, SpillwayError } from '../../errors.ts';
import type { Catalog } from '../catalog.ts';
import type { Rebuild } from '../store.ts';
import { countEpisode } from './episode-count.ts';
import type { WorkerRequest, WorkerResponse, WorkerStart } from './messages.ts';
import type { CatalogOperations } from './operations.ts';
import type { SqliteOptions } from './sqlite-database.ts';

// The sources run as they are; the build puts the worker's file beside the one that holds this code.
const WORKER_URL = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './sqlite-worker.js', import.meta.url);

/**
 * Opens the catalog in `file`, an SQLite database that is created (mode 0600) where there is none. It works in a thread
 * of its own, so that no commit blocks the event loop; calls are carried out in the order in which they were made.
 * The file is locked until `close`. An idle catalog does not keep the process alive, a call in flight does.
 *
 * @throws SpillwayError `SPILLWAY_STORE_FORMAT` for a file that is no catalog or one of an unknown version,
 * `SPILLWAY_STORE_LOCKED` where it is open already, `SPILLWAY_STORE_FULL`, `SPILLWAY_STORE_FAILED`
 */
export async function openSqliteCatalog(options: SqliteOptions): Promise<SqliteCatalog> {
  const thread = new CatalogThread(options);
  const rebuilt = await thread.opened;
  const call =
    <Method extends keyof CatalogOperations>(method: Method) =>
    (...parameters: Parameters<CatalogOperations[Method]>): Promise<ReturnType<CatalogOperations[Method]>> =>
      thread.call<ReturnType<CatalogOperations[Method]>>(method, parameters);
  return {
    durable: true,
    rebuilt,
    lost: thread.lost,
    snapshot: () => thread.call<boolean>('snapshot', []),
    lastArrivalId: call('lastArrivalId'),
    hasArrival: call('hasArrival'),
    findVersion: call('findVersion'),
    accept: call('accept'),
    versions: call('versions'),
    registerDestination: call('registerDestination'),
    destinations: call('destinations'),
    retireDestination: call('retireDestination'),
    leaseStudies: call('leaseStudies'),
    releaseStudies: call('releaseStudies'),
    dueDeliveries: call('dueDeliveries'),
    settle: call('settle'),
    nextDueAt: call('nextDueAt'),
    rankedStudies: call('rankedStudies'),
    rankingFacts: call('rankingFacts'),
    setRanks: call('setRanks'),
    markRanked: call('markRanked'),
    restateUrgency: call('restateUrgency'),
    backlog: call('backlog'),
    deliveries: call('deliveries'),
    openEpisode: call('openEpisode'),
    markEpisode: call('markEpisode'),
    episodes: call('episodes'),
    episodeRemains: call('episodeRemains'),
    studies: call('studies'),
    held: call('held'),
    hourlyTotals: call('hourlyTotals'),
    evictable: call('evictable'),
    evictionBlocks: call('evictionBlocks'),
    beginEviction: call('beginEviction'),
    endEviction: call('endEviction'),
    evictions: call('evictions'),
    unknownArrivals: call('unknownArrivals'),
    takeUp: call('takeUp'),
    markMissing: call('markMissing'),
    acceptanceOf: call('acceptanceOf'),
    openCommitment: call('openCommitment'),
    commitments: call('commitments'),
    closeCommitment: call('closeCommitment'),
    appendLog: call('appendLog'),
    log: call('log'),
    boundDelays: call('boundDelays'),
    redrive: call('redrive'),
    discard: call('discard'),
    raiseEvidence: call('raiseEvidence'),
    recentlyVerified: call('recentlyVerified'),
    returnToBacklog: call('returnToBacklog'),
    copyOpenDeliveries: call('copyOpenDeliveries'),
    oldestAnswerAt: call('oldestAnswerAt'),
    planEpisode: call('planEpisode'),
    endPlan: call('endPlan'),
    episodeDeliveries: call('episodeDeliveries'),
    countEpisode: (episodeId) => countEpisode(call('countEpisodePart'), episodeId),
    close: () => thread.close(),
  };
}

/** A catalog in a file. */
export interface SqliteCatalog extends Catalog {
  /** What its opening did to a lost or damaged one; null when it was there and sound. */
  readonly rebuilt: Rebuild | null;
  /** Resolves when its thread has died: nothing can be recorded or read any more. */
  readonly lost: Promise<SpillwayError>;
  /** Copies it to `snapshots/` beside it, durably, unless nothing has changed since the last; returns whether it did. */
  snapshot(): Promise<boolean>;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: SpillwayError): void;
}

/** The worker, the calls to it that are in flight, and what became of it. */
class CatalogThread {
  /** Resolves when the catalog is open; rejects when it could not be opened. */
  readonly opened: Promise<Rebuild | null>;
  /** Resolves when it has died without being closed. */
  readonly lost: Promise<SpillwayError>;
  #isLost: (failure: SpillwayError) => void = () => {};
  readonly #worker: Worker;
  readonly #calls = new Map<number, Call>();
  readonly #exited: Promise<void>;
  #lastId = 0;
  #failure: SpillwayError | null = null;
  #closing: Promise<void> | null = null;

  constructor(start: WorkerStart) {
    // None of the process's own flags: a worker refuses those of V8 and of the process, and needs none.
    this.#worker = new Worker(WORKER_URL, { workerData: start, execArgv: [], name: 'spillway catalog' });
    this.opened = this.#expect(0);
    this.lost = new Promise((resolve) => {
      this.#isLost = resolve;
    });
    this.#worker.on('message', (response: WorkerResponse) => this.#receive(response));
    this.#worker.on('error', (error) => this.#fail(messageOf(error)));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#fail(`it ended with code ${code}`);
        resolve();
      });
    });
  }

  async call<Result>(method: WorkerRequest['method'], parameters: readonly unknown[]): Promise<Result> {
    if (this.#closing !== null) throw new SpillwayError('SPILLWAY_CLOSED', 'The catalog is closed. Open it again.');
    return this.#post<Result>(method, parameters);
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    // A worker that has died holds nothing any more; its failure was given to the calls that it concerned.
    if (this.#failure === null) await this.#post<void>('close', []).finally(() => this.#worker.terminate());
    await this.#exited;
  }

  #post<Result>(method: WorkerRequest['method'], parameters: readonly unknown[]): Promise<Result> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#lastId += 1;
    const request: WorkerRequest = { id: this.#lastId, method, parameters };
    const answer = this.#expect<Result>(request.id);
    this.#worker.postMessage(request);
    return answer;
  }

  #expect<Result>(id: number): Promise<Result> {
    this.#worker.ref();
    return new Promise<Result>((resolve, reject) => {
      this.#calls.set(id, { resolve: (result) => resolve(result as Result), reject });
    });
  }

  #receive(response: WorkerResponse): void {
    const call = this.#calls.get(response.id);
    this.#calls.delete(response.id);
    // While it is being closed, the process must live to see the end of the worker.
    if (this.#calls.size === 0 && this.#closing === null) this.#worker.unref();
    if ('result' in response) {
      call?.resolve(response.result);
      return;
    }
    const { code, message, cause } = response.error;
    call?.reject(new SpillwayError(code, message, cause === null ? {} : { cause: new Error(cause) }));
  }

  #fail(reason: string): void {
    this.#failure ??= new SpillwayError(
      'SPILLWAY_STORE_FAILED',
      `The thread of the catalog has failed (${reason}). What was in flight may or may not have been recorded; ` +
        'open the store again.',
    );
    for (const call of this.#calls.values()) call.reject(this.#failure);
    this.#calls.clear();
    if (this.#closing === null) this.#isLost(this.#failure);
  }
}
