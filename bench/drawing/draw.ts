import type { Recording, Sample, Span } from './recording.ts';

const WIDTH = 900;
const LEFT = 64;
const RIGHT = 20;
const TOP = 74;
/** Where happenings are named: spans, and below them instants. */
const LABELS = { title: 18, spans: 44, marks: 61 };
const GAP = 34;
const PANELS = { backlog: 150, rate: 120, flight: 120 };
const TICK_S = 5;
/** Legible on white and on near-black. */
const STYLE = `
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f}
.title{font-weight:600}.small{font-size:11px;fill:#57606a}.axis{stroke:#8c959f;stroke-width:1}
.grid{stroke:#8c959f;stroke-opacity:.25;stroke-width:1}.mark{stroke:#57606a;stroke-width:1;stroke-dasharray:2 3}
.outage{fill:#cf222e;fill-opacity:.12}.slow{fill:#bf8700;fill-opacity:.18}.busy{fill:#8250df;fill-opacity:.22}
.t0{fill:#cf222e}.t1{fill:#d4a72c}.t2{fill:#6e9bd1}.rate{fill:none;stroke:#1a7f37;stroke-width:1.8}
.capacity{fill:none;stroke:#57606a;stroke-width:1;stroke-dasharray:5 4}
.flight{fill:#0969da;fill-opacity:.28}.limit{fill:none;stroke:#0969da;stroke-width:1.8}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b3}.mark,.capacity{stroke:#9da7b3}
.outage{fill:#ff7b72;fill-opacity:.16}.slow{fill:#e3b341;fill-opacity:.16}.busy{fill:#bc8cff;fill-opacity:.22}
.t0{fill:#ff7b72}.t1{fill:#e3b341}.t2{fill:#79a8dd}.rate{stroke:#56d364}.flight{fill:#58a6ff}.limit{stroke:#58a6ff}}`;

interface Panel {
  readonly top: number;
  readonly height: number;
  readonly max: number;
  readonly title: string;
}

/** A recording as an SVG: backlog by tier, rate, and requests in flight, one below another over the same seconds. */
export function draw(recording: Recording): string {
  const { seconds, samples, spans, marks } = recording;
  const x = (at: number) => LEFT + (at / seconds) * (WIDTH - LEFT - RIGHT);
  const total = ({ backlog }: Sample) => backlog.reduce((sum, count) => sum + count, 0);
  const most = (of: (sample: Sample) => number) => Math.max(...samples.map(of));
  const backlog: Panel = {
    top: TOP,
    height: PANELS.backlog,
    max: ceiling(most(total)),
    title: 'Backlog by tier, instances',
  };
  const rate: Panel = {
    top: backlog.top + backlog.height + GAP,
    height: PANELS.rate,
    max: ceiling(
      Math.max(
        ...recording.capacity.map(({ perSecond }) => perSecond),
        most((sample) => sample.rate),
      ),
    ),
    title: 'Stored by the PACS, instances a second',
  };
  const flight: Panel = {
    top: rate.top + rate.height + GAP,
    height: PANELS.flight,
    max: Math.max(
      8,
      most(({ limit }) => limit),
    ),
    title: 'Requests in flight, and how many the flow allows',
  };
  const bottom = flight.top + flight.height;
  const height = bottom + 44;
  const y = (panel: Panel, value: number) => panel.top + panel.height * (1 - Math.min(1, value / panel.max));
  const parts: string[] = [];
  for (const span of spans) parts.push(band(span, x, bottom));
  for (const panel of [backlog, rate, flight]) parts.push(frame(panel, y));
  for (let at = 0; at <= seconds; at += TICK_S) {
    const px = round(x(at));
    parts.push(`<line class="axis" x1="${px}" y1="${bottom}" x2="${px}" y2="${bottom + 4}"/>`);
    parts.push(`<text class="small" x="${px}" y="${bottom + 17}" text-anchor="middle">${at}</text>`);
  }
  parts.push(`<text class="small" x="${WIDTH - RIGHT}" y="${bottom + 34}" text-anchor="end">seconds</text>`);

  // From the last tier up, each on top of the less urgent ones.
  recording.tiers.forEach((_, tier) => {
    const upper = (sample: Sample) => sample.backlog.slice(tier).reduce((sum, count) => sum + count, 0);
    const lower = (sample: Sample) => upper(sample) - (sample.backlog[tier] ?? 0);
    const there = points(samples, x, (sample) => y(backlog, upper(sample)));
    const back = points(samples.toReversed(), x, (sample) => y(backlog, lower(sample)));
    parts.push(`<path class="t${tier}" d="M${there}L${back}Z"/>`);
  });
  recording.tiers.forEach((name, tier) => {
    const px = WIDTH - RIGHT - 330 + tier * 118;
    parts.push(`<rect class="t${tier}" x="${px}" y="${LABELS.title - 9}" width="10" height="10"/>`);
    parts.push(`<text class="small" x="${px + 15}" y="${LABELS.title}">${name}</text>`);
  });

  parts.push(`<path class="capacity" d="${steps(recording, x, (value) => y(rate, value))}"/>`);
  parts.push(`<path class="rate" d="M${points(samples, x, (sample) => y(rate, sample.rate))}"/>`);
  parts.push(
    legend(rate.top, [
      ['capacity', 'what the PACS can do'],
      ['rate', 'what it stores'],
    ]),
  );

  parts.push(
    `<path class="flight" d="M${round(x(samples[0]?.at ?? 0))},${bottom}L${stairs(samples, x, (sample) => y(flight, sample.inFlight))}` +
      `L${round(x(samples.at(-1)?.at ?? 0))},${bottom}Z"/>`,
  );
  const atOnce = round(y(flight, recording.atOnce));
  parts.push(`<line class="capacity" x1="${LEFT}" y1="${atOnce}" x2="${WIDTH - RIGHT}" y2="${atOnce}"/>`);
  parts.push(`<path class="limit" d="M${stairs(samples, x, (sample) => y(flight, sample.limit))}"/>`);
  parts.push(
    legend(flight.top, [
      ['capacity', 'what it works on at once'],
      ['limit', 'allowed'],
    ]),
  );

  marks.forEach(({ at, label }) => {
    const px = round(x(at));
    parts.push(`<line class="mark" x1="${px}" y1="${LABELS.marks - 10}" x2="${px}" y2="${bottom}"/>`);
    const isLate = at > seconds * 0.85;
    parts.push(
      `<text class="small" x="${px + (isLate ? -4 : 4)}" y="${LABELS.marks}"${isLate ? ' text-anchor="end"' : ''}>${label}</text>`,
    );
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" ` +
    `aria-label="A drain over time: backlog by tier, rate, and requests in flight"><style>${STYLE}</style>${parts.join('')}</svg>\n`
  );
}

function band({ from, to, label, kind }: Span, x: (at: number) => number, bottom: number): string {
  const [left, right] = [round(x(from)), round(x(to))];
  return (
    `<rect class="${kind}" x="${left}" y="${LABELS.spans - 13}" width="${round(right - left)}" height="${bottom - LABELS.spans + 13}"/>` +
    `<text class="small" x="${round((left + right) / 2)}" y="${LABELS.spans}" text-anchor="middle">${label}</text>`
  );
}

function frame(panel: Panel, y: (panel: Panel, value: number) => number): string {
  const lines = [0, 0.5, 1].map((part) => {
    const value = panel.max * part;
    const py = round(y(panel, value));
    return (
      `<line class="${part === 0 ? 'axis' : 'grid'}" x1="${LEFT}" y1="${py}" x2="${WIDTH - RIGHT}" y2="${py}"/>` +
      `<text class="small" x="${LEFT - 8}" y="${py + 4}" text-anchor="end">${value.toLocaleString('en')}</text>`
    );
  });
  const titleAt = panel.top === TOP ? LABELS.title : panel.top - 6;
  return `<text class="title" x="${LEFT}" y="${titleAt}">${panel.title}</text>${lines.join('')}`;
}

/** Lines named above the right end of a panel. */
function legend(top: number, names: readonly (readonly [kind: string, text: string])[]): string {
  return names
    .map(([kind, text], index) => {
      const px = WIDTH - RIGHT - 330 + index * 185;
      return (
        `<line class="${kind}" x1="${px}" y1="${top - 10}" x2="${px + 22}" y2="${top - 10}"/>` +
        `<text class="small" x="${px + 28}" y="${top - 6}">${text}</text>`
      );
    })
    .join('');
}

function points(samples: readonly Sample[], x: (at: number) => number, y: (sample: Sample) => number): string {
  return samples.map((sample) => `${round(x(sample.at))},${round(y(sample))}`).join(' ');
}

/** Level until the next sample, and only where it changes. */
function stairs(samples: readonly Sample[], x: (at: number) => number, y: (sample: Sample) => number): string {
  const corners: string[] = [];
  let level: number | undefined;
  for (const sample of samples) {
    const next = round(y(sample));
    const px = round(x(sample.at));
    if (level !== undefined && level !== next) corners.push(`${px},${level}`);
    if (level !== next) corners.push(`${px},${next}`);
    level = next;
  }
  corners.push(`${round(x(samples.at(-1)?.at ?? 0))},${level ?? 0}`);
  return corners.join(' ');
}

function steps(recording: Recording, x: (at: number) => number, y: (value: number) => number): string {
  const { capacity, seconds } = recording;
  return capacity
    .map(({ from, perSecond }, index) => {
      const to = capacity[index + 1]?.from ?? seconds;
      return `${index === 0 ? 'M' : 'L'}${round(x(from))},${round(y(perSecond))}L${round(x(to))},${round(y(perSecond))}`;
    })
    .join('');
}

/** The next number that is easily read off an axis. */
function ceiling(value: number): number {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return ([1, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * magnitude >= value) ?? 10) * magnitude;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
