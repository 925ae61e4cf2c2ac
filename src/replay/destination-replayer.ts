import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import type { Rank, Urgency } from '../domain/rank.ts';
import { SpillwayError } from '../errors.ts';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPolicy,
  type DestinationState,
  initialDestination,
  stepDestination,
} from '../routing/destination.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { Destination } from '../transports/transport.ts';
import { abortable } from './abortable-transport.ts';
import { Alarms } from './alarms.ts';
import { BacklogRanker, type Ranking, type Reclassification } from './backlog-ranking.ts';
import { BacklogSender, STORE_FAILURE_PAUSE_MS } from './backlog-sender.ts';
import { Changes } from './changes.ts';
import { CommitmentDesk } from './commitment-desk.ts';
import { Delayed } from './delayed.ts';
import { DestinationEvidence } from './destination-evidence.ts';
import { DestinationSender, type ReadDelivery } from './destination-sender.ts';
import type { DestinationStatus, Emit } from './events.ts';
import { OutageRecorder, type PlannedOutage } from './outage-recorder.ts';
import { type Lapse, ProcessWatch } from './process-watch.ts';
import { ProgressReporter } from './progress-reporter.ts';
import { StorageTrial } from './storage-trial.ts';

/** Where ages count from the present, studies grow older while they wait. */
const AGEING_INTERVAL_MS = 10 * 60_000;
/** What is owed again is ranked by its age of now, soon and all together. */
const OWED_RANKING_MS = 1_000;
/** The longest that anything waits for besides the retry policy: see `HELD_BACK_MS` of the window. */
const LONGEST_WAIT_MS = 60_000;

export interface ReplayerOptions {
  readonly destination: Destination;
  readonly catalog: Catalog;
  readonly read: ReadDelivery;
  /** As it is at present. */
  readonly ranking: () => Ranking;
  readonly policy: DestinationPolicy;
  readonly clock: Clock;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly emit: Emit;
  /** An outage is on record, or was at opening: its standbys take over what is open. Tried until it holds. */
  readonly takeOver: () => Promise<void>;
}

/**
 * Sends one destination's deliveries: carries out what routing decides, with real requests. The catalog is the truth;
 * this holds a bounded window of it, and can be stopped or killed at any moment.
 */
export class DestinationReplayer {
  readonly id: string;
  /** Whether it still holds what was verified. */
  readonly evidence: DestinationEvidence;
  readonly #options: ReplayerOptions;
  readonly #backlog: BacklogSender;
  readonly #trial: StorageTrial;
  readonly #commitment: CommitmentDesk | undefined;
  readonly #outages: OutageRecorder;
  readonly #ranker: BacklogRanker;
  readonly #abort = new AbortController();
  /** Aborted as soon as it is to stop: nobody waits for another try then. */
  readonly #ending = new AbortController();
  readonly #alarms: Alarms;
  readonly #watch: ProcessWatch;
  readonly #progress: ProgressReporter;
  readonly #ageing: Delayed;
  readonly #owedRanking: Delayed;
  /** Changes of episodes and ranks: nothing new is started meanwhile. */
  readonly #changes: Changes;
  #state: DestinationState;
  /** The probe or trial under way; health asks for one at a time. */
  #asking: Promise<void> = Promise.resolve();
  /** What is known of the destination has been read from the catalog. */
  #isStarted = false;
  /** How often a person has declared an outage. */
  #declarations = 0;
  #isPaused = false;
  /** A trial that health asked for while it was paused. */
  #owesTrial = false;
  #stopping = false;

  constructor(options: ReplayerOptions) {
    const { destination, catalog, clock, policy } = options;
    this.#options = options;
    this.id = destination.id;
    const onFault = (error: unknown) => this.#fault(error);
    const isStopping = () => this.#stopping;
    this.#state = initialDestination(clock.now(), 'up', 'nothing is known against it', policy);
    const transport = abortable(destination.transport);
    const sender = new DestinationSender(transport, verifyLevel(destination), options.read);
    const shared = { catalog, destinationId: this.id, clock, onFault };
    if (sender.verify === 'committed') {
      const onVerified = (deliveries: readonly Delivery[]) => this.#committed(deliveries);
      this.#commitment = new CommitmentDesk({ ...shared, transport, onVerified });
    }
    this.evidence = new DestinationEvidence({
      ...shared,
      sender,
      isDown: () => this.isDown,
      onSuspected: (suspicion) => options.emit('rollback-suspected', suspicion),
      onReturned: () => this.owesAgain(),
    });
    const lastTier = options.ranking().policy.tiers.length - 1;
    this.#backlog = new BacklogSender({
      ...options,
      sender,
      commitment: this.#commitment,
      historyTier: policy.share.history > 0 ? lastTier : undefined,
      signal: this.#abort.signal,
      state: () => this.#state,
      isHeld: () => !this.#isStarted || this.#stopping || this.#isPaused || this.#changes.areUnderWay,
      dispatch: (event) => this.#dispatch(event),
      wakeAt: (at) => this.#alarms.set(at),
      onSettled: (answered, waitedMs) => {
        if (waitedMs !== null) this.#progress.proven(waitedMs);
        if (answered !== null) this.#progress.answered(answered.tier, answered.bytes);
        this.#progress.moved();
        this.#outages.moved();
      },
      onFault,
    });
    this.#alarms = new Alarms(clock, () => {
      this.#backlog.refresh();
      this.#dispatch({ type: 'tick' });
      this.#backlog.pump(true);
    });
    this.#trial = new StorageTrial({
      clock,
      transport,
      backlog: this.#backlog,
      signal: this.#abort.signal,
      maxWaitMs: policy.retry.maxRetryMs,
      mayTry: () => !this.#stopping && !this.#isPaused && ['suspect', 'probing'].includes(this.#state.health.phase),
      onFault,
    });
    this.#watch = new ProcessWatch(clock, (lapse) => this.#lapsed(lapse));
    this.#ranker = new BacklogRanker({
      catalog,
      destinationId: this.id,
      ranking: options.ranking,
      referenceAt: (now) => this.referenceAt(now),
      isStopping,
      onRanked: (study, rank) => this.#backlog.ranked(study, rank),
    });
    this.#progress = new ProgressReporter({
      destinationId: this.id,
      catalog,
      clock,
      policy,
      tiers: () => options.ranking().policy,
      view: () => ({
        state: this.#state,
        isPaused: this.#isPaused,
        inFlight: this.#backlog.inFlight,
        episode: this.#outages.current,
      }),
      // A commitment comes when the archive reports, however fast it stores.
      onLag: (lagMs) => this.#commitment === undefined && this.#dispatch({ type: 'lag', lagMs }),
      emit: options.emit,
      isStopping,
      onFault,
    });
    const ranking = { clock, run: () => this.#rankAgain(), onFault };
    this.#ageing = new Delayed({ ...ranking, delayMs: AGEING_INTERVAL_MS });
    this.#owedRanking = new Delayed({ ...ranking, delayMs: OWED_RANKING_MS });
    this.#changes = new Changes({
      clock,
      signal: this.#ending.signal,
      retryAfterMs: STORE_FAILURE_PAUSE_MS,
      isStopping,
      onFault,
      onDone: () => this.#backlog.pump(true),
    });
    this.#outages = new OutageRecorder({
      ...shared,
      ranking: options.ranking,
      changes: this.#changes,
      emit: options.emit,
      takeOver: options.takeOver,
      prepare: async (at) => {
        await this.#ranker.byAge(at);
        await this.#backlog.releaseIdle();
      },
      onRecovered: (episode) => this.evidence.sampleAfterOutage(episode),
      isStopping,
    });
  }

  /** Takes up where the catalog stands. */
  async start(): Promise<void> {
    await this.#outages.load();
    const now = this.#options.clock.now();
    await this.#boundDelays(now);
    const episode = this.#outages.current;
    if (episode !== null) this.#state = stateOf(episode, now, this.#options.policy);
    this.#changes.insist(() => this.#ranker.atOpening(now));
    await this.evidence.start();
    this.#ageing.ask();
    this.#watch.start();
    this.#isStarted = true;
    this.#dispatch({ type: 'tick' });
    this.#outages.moved();
  }

  /**
   * Ranks the whole backlog by the present policy; sending goes on meanwhile. Aborting leaves ranks of both policies, until
   * it is called again or the store is opened anew.
   */
  async reclassify(signal: AbortSignal | undefined): Promise<Reclassification> {
    const ranked = await this.#changes.inTurn(() => this.#ranker.reclassify(this.#options.clock.now(), signal));
    await this.#backlog.releaseIdle();
    this.#backlog.pump(true);
    return ranked;
  }

  /** Whether nothing can be sent now, as far as is known. */
  get isDown(): boolean {
    return ['down', 'probing', 'planned'].includes(this.#state.health.phase);
  }

  referenceAt(now: number): number {
    return this.#outages.referenceAt(now);
  }

  /** A delivery to this destination was committed. */
  accepted(studyInstanceUid: string, rank: Rank, bytes: number): void {
    this.#backlog.arrived(studyInstanceUid, rank, this.isDown ? 'backlog' : 'live');
    this.#dispatch({ type: 'arrived', bytes });
    this.#progress.moved();
    this.#backlog.pump(true);
  }

  /** Something that nobody here had a hand in has changed what is owed: it may be more, or less. */
  changed(): void {
    this.#backlog.refresh();
    this.#progress.moved();
    this.#outages.moved();
    this.#backlog.pump(true);
  }

  /** Deliveries that had ended are owed again. */
  owesAgain(): void {
    this.#owedRanking.ask();
    this.changed();
  }

  /** A person gives deliveries up; waits for the requests in flight that carry them. See `BacklogSender`. */
  async giveUp(
    deliveryIds: readonly number[],
    signal: AbortSignal | undefined,
    giveUp: () => Promise<readonly number[]>,
  ): Promise<readonly number[]> {
    try {
      return await this.#backlog.giveUp(deliveryIds, signal, giveUp);
    } finally {
      this.changed();
    }
  }

  /** Deliveries have ended without a request from here; resolves when none of them is begun any more. */
  async owesNoMore(deliveryIds: readonly number[]): Promise<void> {
    await this.#backlog.drop(deliveryIds);
    this.changed();
  }

  /** A study's order became more urgent. */
  restated(studyInstanceUid: string, urgency: Urgency): void {
    this.#backlog
      .restated(studyInstanceUid, urgency)
      .then(() => this.#backlog.pump(true))
      .catch((error) => this.#fault(error));
  }

  /** A person says that the destination is down, and until when; an outage under way becomes that. */
  declareOutage(outage: PlannedOutage): Promise<EpisodeRecord> {
    const { reason, expectedEndAt } = outage;
    this.#declarations += 1;
    return this.#outages.declare(outage, () => this.#dispatch({ type: 'declare-outage', reason, expectedEndAt }));
  }

  /** A person says that a planned outage is over: the destination is asked. */
  async endOutage(by: string): Promise<void> {
    if (this.#state.health.phase !== 'planned') {
      throw new SpillwayError(
        'SPILLWAY_NOT_FOUND',
        `Expected a destination with a planned outage, got "${this.id}", which is ${this.#state.health.phase}.`,
      );
    }
    const declarations = this.#declarations;
    await this.#outages.declareEnd(by);
    // Whoever has declared it again meanwhile has the last word.
    if (this.#declarations === declarations) this.#dispatch({ type: 'end-outage' });
  }

  /** Starts nothing more; resolves when nothing is in flight. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    this.#progress.moved();
    this.#backlog.pump();
    await Promise.all([this.#backlog.onIdle(), this.#asking]);
  }

  resume(): void {
    this.#isPaused = false;
    this.#progress.moved();
    if (this.#owesTrial) this.#perform({ type: 'trial' }, this.#options.clock.now());
    this.#backlog.pump(true);
  }

  status(): Promise<DestinationStatus> {
    return this.#progress.status();
  }

  /**
   * Starts nothing more, gives requests in flight `graceMs` to end, then aborts them: their deliveries stay pending,
   * and are looked up before they are sent again.
   */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#ending.abort();
    this.#alarms.stop();
    this.#watch.stop();
    this.#progress.stop();
    this.#ageing.stop();
    this.#owedRanking.stop();
    const cancel = this.#options.clock.schedule(graceMs, () => this.#abort.abort());
    await this.evidence.stop();
    await Promise.all([this.#backlog.onIdle(), this.#asking]);
    await this.#changes.idle();
    await this.#commitment?.idle();
    await this.#backlog.releaseIdle().catch((error) => this.#fault(error));
    cancel();
    this.#abort.abort();
    await this.#letGo(graceMs);
  }

  /** It was given up for good in the catalog: stops, and its episodes are closed. */
  async retire(graceMs: number): Promise<void> {
    await this.stop(graceMs);
    await this.#outages.giveUp();
  }

  /** A transport that does not close keeps nobody from closing. */
  async #letGo(graceMs: number): Promise<void> {
    const { destination, clock } = this.#options;
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = clock.schedule(graceMs, resolve);
    });
    await Promise.race([destination.transport.close().catch((error) => this.#fault(error)), late]);
    cancel();
  }

  #dispatch(event: DestinationEvent): void {
    this.#watch.check();
    const at = this.#options.clock.now();
    const before = this.#state.health;
    const { state, effects } = stepDestination(this.#state, event, at, this.#options.random(), this.#options.policy);
    this.#state = state;
    const { phase, reason } = state.health;
    if (before.phase !== phase) {
      this.#options.emit('health', { destinationId: this.id, from: before.phase, to: phase, reason, at });
      this.#progress.moved();
    }
    for (const effect of effects) this.#perform(effect, at);
    this.#backlog.pump();
  }

  #perform(effect: DestinationEffect, at: number): void {
    switch (effect.type) {
      // Outside the slots: requests that hang must not hold up the question whether they ever will be answered.
      case 'probe':
        this.#asking = this.#probe();
        return;
      case 'trial':
        this.#owesTrial = this.#isPaused;
        if (!this.#isPaused) this.#asking = this.#try();
        return;
      case 'wake':
        this.#alarms.set(effect.at);
        return;
      case 'overdue':
        this.#outages.overdue();
        return;
      case 'outage':
        this.#outages.began(effect, at);
        return;
      case 'recovery':
        this.#trial.forget();
        this.#outages.recovered(at);
    }
  }

  /** Reported by itself: the worker knows nothing of it. */
  async #committed(deliveries: readonly Delivery[]): Promise<void> {
    await this.owesNoMore(deliveries.map(({ id }) => id));
    for (const { destinationId, arrivalId, identity } of deliveries) {
      const proof = { state: 'verified', evidence: 'committed', reason: null } as const;
      this.#options.emit('delivery', { destinationId, arrivalId, identity, ...proof });
    }
  }

  async #probe(): Promise<void> {
    const startedAt = this.#options.clock.now();
    const answer = await this.#trial.probe();
    if (!this.#stopping)
      this.#dispatch({ type: 'probe-ended', startedAt, othersInFlight: this.#backlog.inFlight, ...answer });
  }

  async #try(): Promise<void> {
    if (this.#stopping) return;
    try {
      if (this.#state.health.phase === 'probing') {
        // Until an outage ends its end is 'now': what was fresh when it came may be fresh no more.
        await this.#changes.inTurn(() => this.#ranker.byAge(this.#options.clock.now()));
        await this.#backlog.releaseIdle();
      }
      const startedAt = this.#options.clock.now();
      const answer = await this.#trial.trial();
      if (this.#stopping) return;
      if (answer === null && this.#isPaused) {
        this.#owesTrial = true;
        return;
      }
      // Where it was not tried, health has moved on, and only hears that nothing is being asked.
      const { alive, reason } = answer ?? { alive: false, reason: 'nothing was tried' };
      this.#dispatch({ type: 'trial-ended', startedAt, othersInFlight: this.#backlog.inFlight, alive, reason });
    } catch (error) {
      this.#fault(error);
      // That says nothing of the destination, so it is not held against it.
      this.#backlog.pauseForStore();
      this.#options.clock.schedule(STORE_FAILURE_PAUSE_MS, () => {
        if (!this.#stopping) this.#perform({ type: 'trial' }, this.#options.clock.now());
      });
    }
  }

  #lapsed(lapse: Lapse): void {
    this.#dispatch(lapse);
    if (lapse.type === 'clock-back') {
      this.#boundDelays(this.#options.clock.now()).catch((error) => this.#fault(error));
    }
  }

  /** What waits longer than anything ever waits does so since the clock went back. */
  async #boundDelays(now: number): Promise<void> {
    const { catalog, policy } = this.#options;
    const longest = Math.max(policy.retry.maxRetryMs, policy.retry.maxLookUpMs, policy.retry.reportMs, LONGEST_WAIT_MS);
    await catalog.boundDelays({ destinationId: this.id, latest: now + longest });
    this.#backlog.refresh();
  }

  async #rankAgain(): Promise<void> {
    this.#ageing.ask();
    await this.#changes.inTurn(() => this.#ranker.byAge(this.#options.clock.now()));
    await this.#backlog.releaseIdle();
    // What was let go is taken again, most urgent first, also where nothing else would ask for it.
    this.#backlog.pump(true);
  }

  #fault(error: unknown): void {
    if (error instanceof SpillwayError && error.code === 'SPILLWAY_CLOSED') return;
    this.#options.emit('fault', { error });
  }
}

/** How far evidence must go at a destination. */
function verifyLevel({ verify, transport }: Destination): NonNullable<Destination['verify']> {
  return verify ?? (transport.supports.lookUp ? 'found' : 'answered');
}

/** Where an episode stands that was open when the store was last open. */
function stateOf(episode: EpisodeRecord, now: number, policy: DestinationPolicy): DestinationState {
  const { endedAt, planned, planEndedAt, expectedEndAt, cause } = episode;
  if (endedAt !== null) return initialDestination(now, 'recovering', 'it stores again', policy);
  const isPlanned = planned && planEndedAt === null;
  return initialDestination(now, isPlanned ? 'planned' : 'down', cause, policy, isPlanned ? expectedEndAt : null);
}
