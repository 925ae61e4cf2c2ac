import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import type { DestinationStatus } from '../../src/replay/events.ts';
import type { Reconciliation } from '../../src/replay/reconciliation.ts';
import type { ChildStudy } from './replay-child.ts';

/** An instance that a gateway has acknowledged. */
export interface Acknowledged {
  readonly arrivalId: string;
  readonly sopInstanceUid: string;
  readonly digest: string;
  readonly tier: string;
}

/** When a run is ended with SIGKILL: as it says the `count`th line that begins with one of these words. */
export interface KillAt {
  readonly words: readonly string[];
  readonly count: number;
}

/** A gateway in a process of its own (replay-child.ts), run again and again on one directory; remembers all that was said. */
export class GatewayProcess {
  readonly accepted: Acknowledged[] = [];
  /** Arrival ids in the order in which they were first said to be sent or verified. */
  readonly delivered: string[] = [];
  readonly verified: string[] = [];
  readonly closed: Reconciliation[] = [];
  readonly faults: string[] = [];
  outages = 0;
  /** Instances in requests that began or, where they ended, that found somebody. */
  attempts = 0;
  status: DestinationStatus | undefined;
  readonly #script: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;
  /** Of requests that have begun and not ended. */
  #inFlight: number[] = [];

  constructor(script: string, directory: string, url: string) {
    this.#script = script;
    this.#args = [directory, url];
    onTestFinished(() => {
      this.#child?.kill('SIGKILL');
    });
  }

  /** Runs it to its end. Returns whether it was killed; it ends by itself when everything is delivered. */
  async run(kill?: KillAt, studies: readonly ChildStudy[] = []): Promise<'killed' | 'drained'> {
    const child = spawn(process.execPath, [this.#script, ...this.#args, JSON.stringify(studies)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints += text;
    });
    const ended = once(child, 'close');
    let left = kill?.count ?? 0;
    for await (const line of createInterface({ input: child.stdout })) {
      this.#hear(line);
      const [word = ''] = line.split(' ', 1);
      if (kill?.words.includes(word) === true) {
        left -= 1;
        if (left === 0) child.kill('SIGKILL');
      }
    }
    const [code, signal] = await ended;
    // What was in flight may have arrived.
    this.attempts += this.#inFlight.reduce((sum, count) => sum + count, 0);
    this.#inFlight = [];
    if (signal === 'SIGKILL') return 'killed';
    if (code !== 0) throw new Error(`The gateway ended with code ${code}:\n${complaints}`);
    return 'drained';
  }

  #hear(line: string): void {
    const [word = '', ...rest] = line.split(' ');
    const [first = ''] = rest;
    switch (word) {
      case 'accepted': {
        const [arrivalId = '', sopInstanceUid = '', digest = '', tier = ''] = rest;
        this.accepted.push({ arrivalId, sopInstanceUid, digest, tier });
        return;
      }
      case 'outage':
        this.outages += 1;
        return;
      case 'sending':
        this.#inFlight.push(Number(first));
        return;
      case 'answered':
        this.#inFlight.shift();
        this.attempts += Number(first);
        return;
      case 'sent':
      case 'verified':
        if (!this.delivered.includes(first)) this.delivered.push(first);
        if (word === 'verified') this.verified.push(first);
        return;
      case 'closed':
        this.closed.push(JSON.parse(rest.join(' ')));
        return;
      case 'fault':
        this.faults.push(rest.join(' '));
        return;
      case 'drained':
        this.status = JSON.parse(rest.join(' '));
    }
  }
}
