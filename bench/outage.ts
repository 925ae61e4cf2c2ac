// The whole job, hands off: instances are sent to a sender while its destination B, an Orthanc, is down for 20 s, and nobody does
// anything afterwards. The sender is an Orthanc with its usual auto-routing scripts, or a gateway with spillway in it; both are fed
// by STOW-RS in the same way. At the end B is asked what it holds.
//
// BENCH_DIRECTORY says where (/var/tmp by default).

import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { CT, SMALL } from './outage/job.ts';
import { type Outcome, type Plan, play } from './outage/scenario.ts';
import { printSummary, ratio } from './support/figures.ts';
import { missingOrthancDicomWeb } from './support/orthanc.ts';

const TARGET_ATTEMPTS = 1.1;
const HEAD = [
  'sent',
  'sender',
  'at B by itself',
  'received twice',
  'attempts a delivery',
  'knew that B is back after',
  'tiers complete after',
  'what the sender says',
  'its balance of the outage',
];

const missing = missingOrthancDicomWeb();
if (missing !== undefined) {
  console.log(`missing: ${missing}; there is no destination`);
} else {
  const root = mkdtempSync(join(process.env.BENCH_DIRECTORY ?? '/var/tmp', 'spillway-outage-'));
  try {
    console.log(`load before: ${loadavg()[0]?.toFixed(1)}`);
    await sideBySide(root);
    console.log(`load after: ${loadavg()[0]?.toFixed(1)}`);
    printSummary();
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function sideBySide(root: string): Promise<void> {
  const rounds: readonly (readonly Plan[])[] = [
    [{ job: CT, sender: 'spillway', killed: false }],
    [
      { job: CT, sender: 'instance', killed: false },
      { job: CT, sender: 'study', killed: false },
    ],
    [
      { job: SMALL, sender: 'study', killed: false },
      { job: SMALL, sender: 'spillway', killed: false },
    ],
    [
      { job: CT, sender: 'spillway', killed: true },
      { job: CT, sender: 'instance', killed: true },
    ],
  ];
  const outcomes: Outcome[] = [];
  printRow(HEAD);
  printRow(HEAD.map(() => '---'));
  for (const [number, round] of rounds.entries()) {
    // Those that wait for the same 20 s wait together; what they are asked for is counts, not speed.
    const played = round.map((plan, index) => play(join(root, `${number}-${index}`), plan));
    for (const outcome of await Promise.all(played)) {
      printRow(describe(outcome));
      outcomes.push(outcome);
    }
  }
  for (const { plan, atB, total, attempts, balanced } of outcomes) {
    if (plan.sender !== 'spillway') continue;
    const name = `outage.${plan.job.name}${plan.killed ? '-killed' : ''}`;
    ratio(`${name}-at-b`, atB / total, 1);
    ratio(`${name}-attempts`, (attempts ?? Number.NaN) / total, TARGET_ATTEMPTS);
    ratio(`${name}-balanced`, Number(balanced), 1);
  }
}

function describe(outcome: Outcome): readonly string[] {
  const { plan, sender, atB, total, twice, attempts, killedAt, noticed, claims, tiers, reconciliation } = outcome;
  const { name, studies, instances } = plan.job;
  return [
    `${instances} ${name} in ${studies} studies${killedAt === null ? '' : `, killed when B had ${killedAt}`}`,
    sender,
    `${atB} of ${total}`,
    String(twice),
    attempts === null ? 'not told' : (attempts / total).toFixed(3),
    noticed === null ? 'not told' : `${noticed.toFixed(1)} s`,
    tiers.map((seconds) => (seconds === null ? 'never' : `${seconds.toFixed(1)} s`)).join(', '),
    claims,
    reconciliation,
  ];
}

function printRow(cells: readonly string[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}
