/**
 * The main job, as one run: a hospital's studies, a PACS that is killed, a gateway that is killed twice, and the proof
 * that every byte arrived, most urgent first. `npm run demo -- --help` names the options.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatBytes, formatDuration, formatReconciliation, type Reconciliation } from '../../src/index.ts';
import { readJournal } from '../../src/testing/index.ts';
import { collect, type DemoInstance, synthesise } from './hospital.ts';
import type { GatewayMessage } from './messages.ts';
import { send } from './modality.ts';
import { foreignPacs, Gateway, ownPacs } from './processes.ts';
import { type Arrival, checkOrder, compareFiles, compareRetrieved } from './proof.ts';
import { Screen } from './screen.ts';

const HELP = `npm run demo -- [--fast] [--dicom DIR] [--pacs URL] [--kill-seed N]

  --fast         a quarter of the instances
  --dicom DIR    real DICOM files instead of made-up ones
  --pacs URL     a real PACS (DICOMweb root, http:) instead of the demo's own
  --kill-seed N  moves the moments of the kills; 0 is the middle`;

const PATIENCE_MS = 110_000;
const POLL_MS = 20;

const { values } = parseArgs({
  options: {
    fast: { type: 'boolean', default: false },
    dicom: { type: 'string' },
    pacs: { type: 'string' },
    'kill-seed': { type: 'string', default: '0' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}

/** What the gateway has said so far. */
interface Heard {
  outages: number;
  recoveries: number;
  reconciliation: Reconciliation | undefined;
  verified: number;
  backlog: number;
  readonly answered: Arrival[];
  readonly quarantined: string[];
  readonly faults: string[];
}

const screen = new Screen();
const heard: Heard = {
  outages: 0,
  recoveries: 0,
  reconciliation: undefined,
  verified: 0,
  backlog: 0,
  answered: [],
  quarantined: [],
  faults: [],
};
let drawBacklog = false;

function hear(message: GatewayMessage): void {
  switch (message.type) {
    case 'status':
      heard.verified = message.status.verified;
      heard.backlog = message.status.backlog.instances;
      if (drawBacklog) screen.backlog(message.status);
      return;
    case 'outage':
      heard.outages += 1;
      screen.say(`gateway: the PACS is down (${message.cause})`, 'yellow');
      return;
    case 'recovery':
      heard.recoveries += 1;
      screen.say('gateway: the PACS stores again, replay begins', 'green');
      return;
    case 'drained':
      screen.say('gateway: everything has been sent', 'green');
      return;
    case 'closed':
      heard.reconciliation = message.reconciliation;
      return;
    case 'answered':
      heard.answered.push({ sopInstanceUid: message.sopInstanceUid, storedAt: Date.now() });
      return;
    case 'quarantine':
      heard.quarantined.push(message.sopInstanceUid);
      screen.say(`gateway: put aside ${message.sopInstanceUid}: ${message.reason}`, 'red');
      return;
    case 'fault':
      heard.faults.push(message.message);
      screen.say(`gateway: ${message.message}`, 'red');
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`It never came about: ${what}.`);
    await sleep(POLL_MS);
  }
}

/** A share of the way, in [0.15, 0.75]: the middle for seed 0, elsewhere for others. */
function killAt(nth: number): number {
  const seed = Number(values['kill-seed']);
  if (seed === 0) return 0.45;
  const hash = Math.imul(seed * 2 + nth, 0x9e3779b1) >>> 0;
  return 0.15 + (hash / 2 ** 32) * 0.6;
}

async function run(directory: string): Promise<boolean> {
  const startedAt = Date.now();
  const folders = {
    modality: join(directory, 'modality'),
    pacs: join(directory, 'pacs'),
    store: join(directory, 'spill'),
  };
  for (const folder of Object.values(folders)) await mkdir(folder);

  const { before, during } =
    values.dicom === undefined
      ? await synthesise(folders.modality, startedAt, values.fast)
      : await collect(values.dicom, startedAt, (path, reason) => screen.say(`left out ${path}: ${reason}`, 'dim'));
  const all = [...before, ...during];
  const bytes = all.reduce((total, { size }) => total + size, 0);
  const studies = new Set(all.map(({ studyInstanceUid }) => studyInstanceUid)).size;
  screen.say(`${all.length} instances of ${studies} studies, ${formatBytes(bytes)}, are ready at the modality`);

  const pacs = values.pacs === undefined ? await ownPacs(folders.pacs) : await foreignPacs(values.pacs);
  const gateway = new Gateway(folders.store, pacs.url, hear);
  try {
    await gateway.start();
    screen.say(`normal operation: ${before.length} instances go straight through`);
    await sendAll(before, gateway, before.length, () => {});
    await until('the first studies verified', () => heard.verified + heard.quarantined.length >= before.length);

    await pacs.down();
    screen.say('the PACS is killed (kill -9); the modality goes on sending, the oldest studies first', 'red');
    const restart = Math.floor(during.length * killAt(1));
    await sendAll(during, gateway, during.length, (acknowledged) => {
      if (acknowledged === restart) return killGateway(gateway, 'in the middle of the outage');
      return undefined;
    });
    screen.say(`all ${during.length} instances are acknowledged: durable in the gateway, none of them at the PACS`);
    await until('an outage', () => heard.outages > 0);

    drawBacklog = true;
    await pacs.up();
    screen.say('the PACS is started again', 'green');
    const enough = before.length + Math.floor(during.length * killAt(2));
    await until('part of the replay', () => heard.verified >= enough || heard.reconciliation !== undefined);
    if (heard.reconciliation === undefined) await killGateway(gateway, 'in the middle of the replay');
    await until('the episode closed', () => heard.reconciliation !== undefined);
    drawBacklog = false;
    await gateway.stop();
    return await prove(all, during, folders.pacs, pacs.url, startedAt);
  } finally {
    await gateway.stop();
    await pacs.stop();
  }
}

async function sendAll(
  instances: readonly DemoInstance[],
  gateway: Gateway,
  total: number,
  onAcknowledged: (count: number) => Promise<void> | undefined,
): Promise<void> {
  let acknowledged = 0;
  const interruptions: Promise<void>[] = [];
  await send(
    instances,
    () => gateway.url,
    () => {
      acknowledged += 1;
      screen.sending(acknowledged, total);
      const interruption = onAcknowledged(acknowledged);
      if (interruption !== undefined) interruptions.push(interruption);
    },
  );
  await Promise.all(interruptions);
}

async function killGateway(gateway: Gateway, when: string): Promise<void> {
  await gateway.kill();
  screen.say(`the gateway is killed (kill -9) ${when}`, 'red');
  await gateway.start();
  screen.say('the gateway is started again on its store');
}

async function prove(
  all: readonly DemoInstance[],
  backlog: readonly DemoInstance[],
  pacsDirectory: string,
  pacsUrl: string,
  startedAt: number,
): Promise<boolean> {
  const { reconciliation } = heard;
  const problems = heard.faults.map((fault) => `fault: ${fault}`);
  if (reconciliation === undefined) return false;
  screen.print(`\n${formatReconciliation(reconciliation)}\n`);
  const { received, verified, quarantined, discarded, outstanding, unaccounted } = reconciliation;
  if (unaccounted !== 0 || outstanding !== 0 || received !== verified + quarantined + discarded) {
    problems.push('the reconciliation does not balance');
  }
  if (received !== backlog.length) problems.push(`${backlog.length} were held up, the episode counts ${received}`);
  const refused = new Set(heard.quarantined);
  if (refused.size > 0 && values.pacs === undefined) problems.push(`${refused.size} instances stand in quarantine`);

  const due = all.filter(({ sopInstanceUid }) => !refused.has(sopInstanceUid));
  const proof =
    values.pacs === undefined ? await compareFiles(pacsDirectory, due) : await compareRetrieved(pacsUrl, due);
  problems.push(...proof.problems);
  screen.say(
    `${proof.compared} of ${due.length} instances at the PACS are ${values.pacs === undefined ? 'byte for byte' : 'in their data sets'} what the modality sent`,
  );
  const order = checkOrder(values.pacs === undefined ? await readJournal(pacsDirectory) : heard.answered, backlog);
  problems.push(...order.problems);
  const begin = Math.min(...order.tiers.map(({ firstAt }) => firstAt));
  for (const { tier, instances, lastAt } of order.tiers) {
    const after = formatDuration(lastAt - begin);
    screen.say(`${tier.padEnd(14)} ${String(instances).padStart(4)} instances, complete ${after} after the first`);
  }
  screen.say(`${order.sentTwice} instances came to the PACS twice, harmlessly, because a kill hid its answer`);
  for (const problem of problems) screen.say(problem, 'red');
  const passed = problems.length === 0;
  screen.say(
    passed
      ? `nothing lost, nothing altered, most urgent first: done in ${formatDuration(Date.now() - startedAt)}`
      : `FAILED: ${problems.length} problems`,
    passed ? 'green' : 'red',
  );
  return passed;
}

const directory = await mkdtemp(join(tmpdir(), 'spillway-demo-'));
try {
  process.exitCode = (await run(directory)) ? 0 : 1;
} catch (error) {
  screen.say(`FAILED: ${error instanceof Error ? error.message : String(error)}`, 'red');
  process.exitCode = 1;
} finally {
  await rm(directory, { recursive: true, force: true });
}
