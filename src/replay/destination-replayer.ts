import PQueue from 'p-queue';
import type { Clock } from '../domain/clock.ts';
import type { Rank, Urgency } from '../domain/rank.ts';
import { SpillwayError } from '../errors.ts';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPolicy,
  type DestinationState,
  initialDestination,
  slots,
  stepDestination,
} from '../routing/destination.ts';
import type { RetryPolicy } from '../routing/retry.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { Destination } from '../transports/transport.ts';
import { Alarms } from './alarms.ts';
import { BacklogRanker, type Ranking, type Reclassification } from './backlog-ranking.ts';
import { Changes } from './changes.ts';
import { Delayed } from './delayed.ts';
import { DeliveryWorker } from './delivery-worker.ts';
import { DestinationSender, type ReadDelivery } from './destination-sender.ts';
import { EpisodeKeeper } from './episode-keeper.ts';
import type { DestinationStatus, Emit } from './events.ts';
import { RateMeter } from './rate-meter.ts';
import { ReplayWindow } from './replay-window.ts';
import { describeStatus } from './status.ts';
import { Turns } from './turns.ts';

/** Studies held in memory for each request that may be in flight, so that the next is at hand. */
const STUDIES_PER_SLOT = 2;
const PROGRESS_INTERVAL_MS = 1_000;
/** Pause after the store failed to record an outcome: going on would send the same again and again. */
const STORE_FAILURE_PAUSE_MS = 5_000;
/** Where ages count from the present, studies grow older while they wait. */
const AGEING_INTERVAL_MS = 10 * 60_000;

export interface ReplayerOptions {
  readonly destination: Destination;
  readonly catalog: Catalog;
  readonly read: ReadDelivery;
  /** As it is at present. */
  readonly ranking: () => Ranking;
  readonly policy: DestinationPolicy;
  readonly retry: RetryPolicy;
  readonly clock: Clock;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly emit: Emit;
}

/**
 * Sends one destination's deliveries: carries out what routing decides, with real requests. The catalog is the truth;
 * this holds a bounded window of it, and can be stopped or killed at any moment.
 */
export class DestinationReplayer {
  readonly id: string;
  readonly #options: ReplayerOptions;
  readonly #worker: DeliveryWorker;
  readonly #window: ReplayWindow;
  readonly #episodes: EpisodeKeeper;
  readonly #ranker: BacklogRanker;
  readonly #queue = new PQueue({ concurrency: 1 });
  readonly #rate = new RateMeter();
  readonly #abort = new AbortController();
  /** Aborted as soon as it is to stop: nobody waits for another try then. */
  readonly #ending = new AbortController();
  readonly #alarms: Alarms;
  readonly #progress: Delayed;
  readonly #ageing: Delayed;
  /** Deliveries tried in vain in this outage, so that one bad instance does not prolong it. */
  readonly #tried = new Set<number>();
  #state: DestinationState;
  /** Calls of the window. */
  readonly #inWindow = new Turns();
  /** Changes of episodes and ranks: nothing new is started meanwhile. */
  readonly #changes: Changes;
  /** The probe or trial under way; health asks for one at a time. */
  #asking: Promise<void> = Promise.resolve();
  #mayHaveWork = true;
  /** Counts signs of work, so that one that comes while a slot looks in vain is not missed. */
  #news = 0;
  #pausedUntil = 0;
  #advancing = false;
  #advanceAgain = false;
  #stopping = false;

  constructor(options: ReplayerOptions) {
    const { destination, catalog, read } = options;
    this.#options = options;
    this.id = destination.id;
    const verify = destination.verify ?? (destination.transport.supports.lookUp ? 'found' : 'answered');
    const sender = new DestinationSender(destination.transport, verify, read);
    this.#window = new ReplayWindow({
      catalog,
      destinationId: this.id,
      maxStudies: options.policy.flow.maxConcurrency * STUDIES_PER_SLOT,
      onLeased: (study, interrupted) => {
        if (interrupted) this.#worker.suspectStudy(study);
      },
      onFinished: (study) => this.#worker.studyFinished(study),
    });
    this.#alarms = new Alarms(options.clock, () => {
      this.#window.refresh();
      this.#dispatch({ type: 'tick' });
      this.#pump(true);
    });
    this.#episodes = new EpisodeKeeper({ catalog, destinationId: this.id, ranking: options.ranking });
    this.#ranker = new BacklogRanker({
      catalog,
      destinationId: this.id,
      ranking: options.ranking,
      referenceAt: (now) => this.referenceAt(now),
      isStopping: () => this.#stopping,
      onRanked: (study, rank) => this.#window.ranked(study, rank),
    });
    const shared = { clock: options.clock, onFault: (error: unknown) => this.#fault(error) };
    this.#progress = new Delayed({
      ...shared,
      delayMs: PROGRESS_INTERVAL_MS,
      run: async () => {
        const status = await this.status();
        if (!this.#stopping) options.emit('progress', status);
      },
    });
    this.#ageing = new Delayed({ ...shared, delayMs: AGEING_INTERVAL_MS, run: () => this.#rankAgain() });
    this.#changes = new Changes({
      clock: options.clock,
      signal: this.#ending.signal,
      retryAfterMs: STORE_FAILURE_PAUSE_MS,
      isStopping: () => this.#stopping,
      onFault: (error) => this.#fault(error),
      onDone: () => this.#pump(true),
    });
    this.#worker = new DeliveryWorker({
      catalog,
      window: this.#window,
      sender,
      retry: options.retry,
      clock: options.clock,
      signal: this.#abort.signal,
      emit: options.emit,
      dispatch: (event) => this.#dispatch(event),
      onSettled: (answeredBytes) => {
        if (answeredBytes !== null) this.#rate.add(options.clock.now(), 1, answeredBytes);
        this.#progress.ask();
        this.#advanceEpisodes();
      },
      onStoreFailure: () => this.#pauseForStore(),
      onFault: (error) => this.#fault(error),
    });
    this.#state = initialDestination(options.clock.now(), 'up', 'nothing is known against it', options.policy);
  }

  /** Takes up where the catalog stands. */
  async start(): Promise<void> {
    await this.#episodes.load();
    const episode = this.#episodes.current;
    const now = this.#options.clock.now();
    if (episode !== null) {
      const phase = episode.endedAt === null ? 'down' : 'recovering';
      const reason = phase === 'down' ? episode.cause : 'it stores again';
      this.#state = initialDestination(now, phase, reason, this.#options.policy);
    }
    this.#changes.insist(() => this.#ranker.atOpening(now));
    this.#ageing.ask();
    this.#dispatch({ type: 'tick' });
    this.#advanceEpisodes();
  }

  /**
   * Ranks the whole backlog by the present policy; sending goes on meanwhile. Aborting leaves ranks of both policies, until
   * it is called again or the store is opened anew.
   */
  async reclassify(signal: AbortSignal | undefined): Promise<Reclassification> {
    const ranked = await this.#changes.inTurn(() => this.#ranker.reclassify(this.#options.clock.now(), signal));
    await this.#releaseIdle();
    this.#pump(true);
    return ranked;
  }

  /** Whether nothing can be sent now, as far as is known. */
  get isDown(): boolean {
    const { phase } = this.#state.health;
    return phase === 'down' || phase === 'probing';
  }

  referenceAt(now: number): number {
    return this.#episodes.referenceAt(now);
  }

  /** A delivery to this destination was committed. */
  accepted(studyInstanceUid: string, rank: Rank): void {
    this.#window.arrived(studyInstanceUid, rank);
    this.#progress.ask();
    this.#pump(true);
  }

  /** A study's order became more urgent. */
  restated(studyInstanceUid: string, urgency: Urgency): void {
    this.#window.restated(studyInstanceUid, urgency);
    this.#releaseIdle()
      .then(() => this.#pump(true))
      .catch((error) => this.#fault(error));
  }

  async status(): Promise<DestinationStatus> {
    const now = this.#options.clock.now();
    const [backlog, destinations] = await Promise.all([
      this.#options.catalog.backlog(this.id),
      this.#options.catalog.destinations(),
    ]);
    return describeStatus({
      destinationId: this.id,
      state: this.#state,
      backlog,
      record: destinations.find((record) => record.destinationId === this.id),
      rate: this.#rate.rate(now),
      inFlight: this.#queue.pending,
      limit: slots(this.#state, now, this.#options.policy),
      episode: this.#episodes.current,
      tiers: this.#options.ranking().policy,
    });
  }

  /**
   * Starts nothing more, gives requests in flight `graceMs` to end, then aborts them: their deliveries stay pending,
   * and are looked up before they are sent again.
   */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#ending.abort();
    this.#alarms.stop();
    this.#progress.stop();
    this.#ageing.stop();
    const cancel = this.#options.clock.schedule(graceMs, () => this.#abort.abort());
    await Promise.all([this.#queue.onIdle(), this.#asking]);
    await this.#changes.idle();
    await this.#releaseIdle().catch((error) => this.#fault(error));
    cancel();
    this.#abort.abort();
    await this.#options.destination.transport.close();
  }

  #dispatch(event: DestinationEvent): void {
    const at = this.#options.clock.now();
    const before = this.#state.health;
    const { state, effects } = stepDestination(this.#state, event, at, this.#options.random(), this.#options.policy);
    this.#state = state;
    const { phase, reason } = state.health;
    if (before.phase !== phase) {
      this.#options.emit('health', { destinationId: this.id, from: before.phase, to: phase, reason, at });
      this.#progress.ask();
    }
    for (const effect of effects) this.#perform(effect, at);
    this.#pump();
  }

  #perform(effect: DestinationEffect, at: number): void {
    switch (effect.type) {
      // Outside the queue: requests that hang must not hold up the question whether they ever will be answered.
      case 'probe':
        this.#asking = this.#probe();
        return;
      case 'trial':
        this.#asking = this.#trial();
        return;
      case 'wake':
        this.#alarms.set(effect.at);
        return;
      case 'outage':
        this.#changes.insist(async () => {
          this.#options.emit('outage', await this.#episodes.begin(effect.cause, effect.startedAt, at));
        });
        return;
      case 'recovery':
        this.#tried.clear();
        this.#changes.insist(async () => {
          const episode = await this.#episodes.end(at);
          await this.#ranker.byAge(at);
          await this.#releaseIdle();
          if (episode !== null) this.#options.emit('recovery', episode);
          this.#advanceEpisodes();
        });
    }
  }

  /** Fills the free slots. `news`: there may be work where there was none. */
  #pump(news = false): void {
    if (news) {
      this.#news += 1;
      this.#mayHaveWork = true;
    }
    const now = this.#options.clock.now();
    const allowed = this.#allowed(now);
    // Never 0, so that probes run.
    this.#queue.concurrency = Math.max(1, allowed);
    if (!this.#mayHaveWork) return;
    // A timer may fire early or be for another instant: a pause that leaves no slot always has one of its own.
    const pausedUntil = Math.max(this.#pausedUntil, this.#state.flow.pausedUntil);
    if (allowed === 0 && pausedUntil > now) this.#alarms.set(pausedUntil);
    for (let free = allowed - this.#queue.pending - this.#queue.size; free > 0; free -= 1) {
      // Its slot is free again only once the queue has seen it end.
      void this.#queue
        .add(() => this.#ticket())
        .then((outcome) => {
          if (outcome === 'idle') return;
          this.#mayHaveWork = true;
          this.#pump(outcome === 'worked');
        });
    }
  }

  #allowed(now: number): number {
    if (this.#stopping || this.#changes.areUnderWay || now < this.#pausedUntil) return 0;
    return slots(this.#state, now, this.#options.policy);
  }

  /**
   * One slot's turn: it takes the most urgent work there is when it begins, not when it was queued. `missed` is when it
   * found none, but something came meanwhile.
   */
  async #ticket(): Promise<'worked' | 'missed' | 'idle'> {
    const now = this.#options.clock.now();
    if (this.#queue.pending > this.#allowed(now)) return 'idle';
    const seen = this.#news;
    try {
      const work = await this.#inWindow.run(() =>
        this.#window.take(now, {
          ...this.#options.destination.transport.batch,
          companyOf: (id) => this.#worker.companyOf(id),
        }),
      );
      if (work === undefined) {
        this.#mayHaveWork = false;
        const due = await this.#options.catalog.nextDueAt({ destinationId: this.id, now });
        if (due !== null) this.#alarms.set(due);
        return this.#news === seen ? 'idle' : 'missed';
      }
      if (work.kind === 'send') await this.#worker.send(work);
      else await this.#worker.lookUp(work);
    } catch (error) {
      this.#fault(error);
      this.#pauseForStore();
    }
    return 'worked';
  }

  async #probe(): Promise<void> {
    const outcome = await this.#options.destination.transport.probe(this.#abort.signal).catch((error) => {
      if (!this.#abort.signal.aborted) this.#fault(error);
      return { alive: false as const, reason: 'the transport failed' };
    });
    if (this.#stopping) return;
    this.#dispatch({
      type: 'probe-ended',
      alive: outcome.alive,
      reason: outcome.alive ? 'it answers' : outcome.reason,
    });
  }

  async #trial(): Promise<void> {
    if (this.#stopping) return;
    const ended = (alive: boolean, reason: string) => {
      if (!this.#stopping) this.#dispatch({ type: 'trial-ended', alive, reason });
    };
    try {
      const now = this.#options.clock.now();
      if (this.#state.health.phase === 'probing') {
        // Until an outage ends its end is 'now': what was fresh when it came may be fresh no more.
        await this.#changes.inTurn(() => this.#ranker.byAge(now));
        await this.#releaseIdle();
      }
      // Those that wait for another try too: they may be all there is to try.
      const due = now + this.#options.retry.maxRetryMs;
      const unreadable = new Set<number>();
      for (;;) {
        const candidate = await this.#inWindow.run(() => this.#window.takeTrial(due, (id) => this.#tried.has(id)));
        if (candidate === undefined) {
          ended(true, 'it answers, and there is nothing to try');
          return;
        }
        for (const { id } of candidate.deliveries) this.#tried.add(id);
        const { alive, reason } = await this.#worker.trial(candidate);
        await this.#releaseIdle();
        // What cannot be read here says nothing of the destination: the next one may. One that comes again is the last.
        const isKnown = candidate.deliveries.some(({ id }) => unreadable.has(id));
        if (alive === null && !isKnown && !this.#stopping) {
          for (const { id } of candidate.deliveries) unreadable.add(id);
          continue;
        }
        ended(alive === true, reason);
        return;
      }
    } catch (error) {
      this.#fault(error);
      // That says nothing of the destination, so it is not held against it.
      this.#pauseForStore();
      this.#options.clock.schedule(STORE_FAILURE_PAUSE_MS, () => {
        if (!this.#stopping) this.#asking = this.#trial();
      });
    }
  }

  /** Looks whether an episode is drained or closed; coalesced, since every settlement asks. */
  #advanceEpisodes(): void {
    if (this.#episodes.current === null) return;
    this.#advanceAgain = true;
    if (this.#advancing || this.#stopping) return;
    this.#advancing = true;
    const advance = async () => {
      while (this.#advanceAgain && !this.#stopping) {
        this.#advanceAgain = false;
        const { drained, closed } = await this.#episodes.advance(this.#options.clock.now());
        for (const episode of drained) this.#options.emit('drained', episode);
        for (const reconciliation of closed) this.#options.emit('closed', reconciliation);
      }
    };
    void this.#changes
      .inTurn(advance)
      .catch((error) => this.#fault(error))
      .finally(() => {
        this.#advancing = false;
      });
  }

  #pauseForStore(): void {
    this.#pausedUntil = this.#options.clock.now() + STORE_FAILURE_PAUSE_MS;
    this.#alarms.set(this.#pausedUntil);
  }

  /**
   * Ends the leases of studies that nobody works on, so that they are leased by their rank of now. Those of which some
   * may have arrived keep theirs: an opening after a kill must know to look them up.
   */
  #releaseIdle(): Promise<void> {
    return this.#inWindow.run(() => this.#window.releaseAll((study) => this.#worker.mustKeepLease(study)));
  }

  async #rankAgain(): Promise<void> {
    this.#ageing.ask();
    await this.#changes.inTurn(() => this.#ranker.byAge(this.#options.clock.now()));
    await this.#releaseIdle();
  }

  #fault(error: unknown): void {
    if (error instanceof SpillwayError && error.code === 'SPILLWAY_CLOSED') return;
    this.#options.emit('fault', { error });
  }
}
