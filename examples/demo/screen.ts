import { type DestinationStatus, formatBytes, formatDuration } from '../../src/index.ts';

const BAR_WIDTH = 36;
const LINE_INTERVAL_MS = 1_000;

const COLOURS = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', cyan: '36' } as const;

/** Draws what happens: live bars on a terminal, plain lines in a pipe. */
export class Screen {
  readonly #terminal = process.stdout.isTTY === true;
  readonly #startedAt = Date.now();
  #drawn = 0;
  #lastLineAt = 0;
  #lastLine = '';
  /** Most that each tier ever had to wait for, in instances. */
  readonly #most = new Map<string, number>();

  paint(text: string, colour: keyof typeof COLOURS): string {
    return this.#terminal ? `\u001b[${COLOURS[colour]}m${text}\u001b[0m` : text;
  }

  /** A line that stays. */
  say(text: string, colour?: keyof typeof COLOURS): void {
    this.#erase();
    const seconds = ((Date.now() - this.#startedAt) / 1000).toFixed(1).padStart(5);
    const line = colour === undefined ? text : this.paint(text, colour);
    process.stdout.write(`${this.paint(`${seconds} s`, 'dim')}  ${line}\n`);
  }

  /** A block of text that stays, without a time. */
  print(text: string): void {
    this.#erase();
    process.stdout.write(`${text}\n`);
  }

  /** Progress of sending to the gateway. */
  sending(done: number, total: number): void {
    this.#live(() => [`        to the gateway  ${bar(done, total)}  ${done}/${total} acknowledged`]);
  }

  /** Progress of the gateway's backlog, tier by tier. */
  backlog(status: DestinationStatus): void {
    const { backlog, rate, health, concurrency } = status;
    this.#live(() => {
      let bytesAhead = 0;
      const rows = backlog.tiers.map(({ tier, instances, bytes }) => {
        const most = Math.max(this.#most.get(tier) ?? 0, instances);
        this.#most.set(tier, most);
        bytesAhead += bytes;
        return `  ${tier.padStart(20)}  ${bar(most - instances, most)}  ${`${most - instances}/${most}`.padEnd(9)} ${
          instances === 0 ? 'done' : timeLeft(bytesAhead, rate.bytesPerSecond)
        }`;
      });
      const flow = `${rate.instancesPerSecond.toFixed(0)} instances/s, ${formatBytes(rate.bytesPerSecond)}/s`;
      return [
        ...rows,
        `        PACS ${health.phase}: ${flow}, ${concurrency.inFlight} of ${concurrency.limit} requests in flight`,
      ];
    });
  }

  /** What is drawn over by the next call; in a pipe at most a line a second. */
  #live(make: () => string[]): void {
    const lines = make();
    if (this.#terminal) {
      this.#erase();
      process.stdout.write(lines.map((line) => `${line}\n`).join(''));
      this.#drawn = lines.length;
      return;
    }
    const now = Date.now();
    const text = lines
      .map((line) =>
        line
          .replace(/\[[#.]*\]/, '')
          .trim()
          .replaceAll(/\s+/g, ' '),
      )
      .join(' | ');
    if (now - this.#lastLineAt < LINE_INTERVAL_MS || text === this.#lastLine) return;
    this.#lastLineAt = now;
    this.#lastLine = text;
    this.say(text);
  }

  #erase(): void {
    if (this.#drawn > 0) process.stdout.write(`\u001b[${this.#drawn}A\u001b[J`);
    this.#drawn = 0;
  }
}

function bar(done: number, total: number): string {
  const filled = total === 0 ? BAR_WIDTH : Math.floor((done / total) * BAR_WIDTH);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
}

function timeLeft(bytes: number, bytesPerSecond: number): string {
  return bytesPerSecond > 0 ? `${formatDuration((bytes / bytesPerSecond) * 1000)} left` : 'waiting';
}
