import { createHash } from 'node:crypto';
import { constants, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import type { Rank } from '../../src/domain/rank.ts';
import type { Acceptance } from '../../src/storage/catalog.ts';
import { blobRefOf } from '../../src/storage/directory/blob-names.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { SCHEMA_VERSION } from '../../src/storage/sqlite/schema.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { type SyntheticModality, syntheticInstance } from '../../src/testing/synthetic.ts';
import { classify } from '../../src/tiers/classify.ts';
import { defaultTierPolicy, policyFingerprint } from '../../src/tiers/policy.ts';

export const DESTINATION = 'pacs';

/** What was made, beside the store: what measurements must know of it. */
export interface MadeStore {
  readonly instances: number;
  readonly studies: number;
  readonly patients: number;
  /** The instant that the ages of its studies were made for, ms since the epoch. */
  readonly now: number;
  /** A patient whose studies are searched for. */
  readonly patientId: string;
  /** Rows that the catalog took a second, files and all. */
  readonly rowsPerSecond: number;
}

const BATCH = 2_000;
const MEAN_STUDY = 250;
const MAX_STUDY = 4_000;
const STUDIES_AT_ONCE = 6;
const RUN_OF_ONE_STUDY = 20;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Studies come in over the outage, whatever their age. */
const OUTAGE_MS = 20 * HOUR_MS;
const MADE_FILE = 'made.json';
const PRISTINE = 'catalog.pristine';
/** All SOP Instance UIDs have one length, so that a file of a series is another with some bytes replaced. */
const PLACEHOLDER_UID = `2.25.${'1'.repeat(39)}`;
const FIRST_INSTANCE_NUMBER = 1_000;
const SURNAMES =
  'Adler Berg Conti Dahl Eder Fuchs Gruber Huber Ivanova Jansen Keller Lang Moser Novak Ortega Pichler'.split(' ');
const GIVEN_NAMES = 'Anna Bela Clara David Elif Franz Greta Hana Ivo Jana Karl Lena Milan Nora Olaf Petra'.split(' ');

/** Where the store of a run is, made anew in `folder` unless it is there: the directory, and what is in it. */
export async function backlogStore(
  folder: string,
  instances: number,
): Promise<{ readonly directory: string; readonly made: MadeStore }> {
  const home = join(folder, `schema-${SCHEMA_VERSION}-instances-${instances}`);
  const directory = join(home, 'store');
  const catalog = join(directory, 'catalog.sqlite');
  const pristine = join(home, PRISTINE);
  let made = readMade(home);
  if (made === undefined) {
    rmSync(home, { recursive: true, force: true });
    mkdirSync(home, { recursive: true });
    made = await makeStore(directory, instances);
    copyFileSync(catalog, pristine, constants.COPYFILE_FICLONE);
    writeFileSync(join(home, MADE_FILE), JSON.stringify(made));
  } else {
    // What former runs settled is pending again; the files are never touched.
    for (const suffix of ['', '-wal']) rmSync(`${catalog}${suffix}`, { force: true });
    copyFileSync(pristine, catalog, constants.COPYFILE_FICLONE);
  }
  return { directory, made };
}

function readMade(home: string): MadeStore | undefined {
  try {
    return JSON.parse(readFileSync(join(home, MADE_FILE), 'utf8')) as MadeStore;
  } catch {
    return undefined;
  }
}

async function makeStore(directory: string, instances: number): Promise<MadeStore> {
  const store = await fileStore({ directory }).open();
  const now = Date.now();
  const random = seededRandom(11);
  await store.catalog.registerDestination(DESTINATION);
  const patients = Math.max(1, Math.round((instances / MEAN_STUDY) * 0.8));
  const began = performance.now();
  let lastShown = began;
  let done = 0;
  let accepted: Promise<unknown> = Promise.resolve();
  const commit = async (batch: readonly MadeInstance[]) => {
    for (const { acceptance, file } of batch)
      writeFileSync(join(directory, acceptance.version.blobRef), file, { mode: 0o600 });
    // Files of the next batch are written while the catalog commits this one.
    await accepted;
    accepted = store.catalog.accept(batch.map(({ acceptance }) => acceptance));
    done += batch.length;
    if (performance.now() - lastShown < 5_000) return;
    lastShown = performance.now();
    const rate = Math.round((done / (lastShown - began)) * 1_000);
    console.log(`making ${instances} instances: ${done} (${rate}/s)`);
  };
  const studies = new Set<string>();
  let batch: MadeInstance[] = [];
  for await (const instance of arrivals({ directory, instances, patients, now, random })) {
    batch.push(instance);
    studies.add(instance.acceptance.version.identity.studyInstanceUid);
    if (batch.length < BATCH) continue;
    await commit(batch);
    batch = [];
  }
  if (batch.length > 0) await commit(batch);
  await accepted;
  await store.catalog.markRanked({
    destinationId: DESTINATION,
    rankedBy: policyFingerprint(defaultTierPolicy, undefined),
  });
  await store.close();
  const rowsPerSecond = Math.round((instances / (performance.now() - began)) * 1_000);
  const patientId = patientIdOf(Math.floor(patients / 2));
  return { instances, studies: studies.size, patients, now, patientId, rowsPerSecond };
}

interface MadeInstance {
  readonly acceptance: Acceptance;
  readonly file: Uint8Array;
}

interface Plan {
  readonly directory: string;
  readonly instances: number;
  readonly patients: number;
  readonly now: number;
  readonly random: () => number;
}

/** Instances in the order in which they come in: several studies at once, a run of one and then of another. */
async function* arrivals(plan: Plan): AsyncGenerator<MadeInstance> {
  const { instances, now, random } = plan;
  let left = instances;
  let next = 0;
  let arrival = 0;
  const open: { series: Series[]; at: number; index: number }[] = [];
  while (left > 0 || open.length > 0) {
    while (left > 0 && open.length < STUDIES_AT_ONCE) {
      const size = Math.min(left, studySize(random));
      open.push({ series: await makeStudy(plan, next, size), at: 0, index: 0 });
      left -= size;
      next += 1;
    }
    const chosen = Math.floor(random() * open.length);
    const study = open[chosen];
    for (let run = 0; study !== undefined && run < RUN_OF_ONE_STUDY; run += 1) {
      const series = study.series[study.at];
      if (series === undefined) {
        open.splice(chosen, 1);
        break;
      }
      const receivedAt = now - OUTAGE_MS + Math.floor((arrival / instances) * OUTAGE_MS);
      const arrivalId = ((BigInt(receivedAt) << 16n) + BigInt(arrival & 0xffff)).toString(16).padStart(16, '0');
      yield makeInstance(series, study.index, arrivalId, receivedAt, random);
      arrival += 1;
      study.index += 1;
      if (study.index < series.instances) continue;
      study.at += 1;
      study.index = 0;
    }
  }
}

/** Lognormal, 250 on average: many small studies, few of thousands. */
function studySize(random: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.min(MAX_STUDY, Math.max(1, Math.round(Math.exp(Math.log(MEAN_STUDY) - 0.5 + normal))));
}

/** 5 % of the last 24 hours, 15 % of the last week, the rest older. */
function ageMs(random: () => number): number {
  const drawn = random();
  if (drawn < 0.05) return random() * 20 * HOUR_MS;
  if (drawn < 0.2) return DAY_MS * (1.2 + random() * 5.5);
  return DAY_MS * (8 + random() * 2_000);
}

interface Series {
  readonly instances: number;
  readonly template: Uint8Array;
  readonly uidOffsets: readonly number[];
  readonly numberOffset: number;
  readonly dataSetOffset: number;
  readonly identity: Acceptance['version']['identity'];
  readonly attributes: Acceptance['attributes'];
  readonly rank: Rank;
}

async function makeStudy(plan: Plan, index: number, size: number): Promise<Series[]> {
  const { random, now, directory } = plan;
  const modality =
    (['CT', 'CT', 'MR', 'MR', 'US', 'CR'] as const satisfies readonly SyntheticModality[])[Math.floor(random() * 6)] ??
    'CT';
  const acquiredAt = now - ageMs(random);
  const iso = new Date(acquiredAt).toISOString();
  const date = iso.slice(0, 10).replaceAll('-', '');
  const time = iso.slice(11, 19).replaceAll(':', '');
  const patient = index < plan.patients ? index : Math.floor(random() * plan.patients);
  const name = `${SURNAMES[patient % 16]}^${GIVEN_NAMES[(patient >> 4) % 16]}`;
  const studyInstanceUid = uid(random);
  const count = Math.min(size, modality === 'CT' || modality === 'MR' ? 1 + Math.floor(random() * 4) : 1);
  const series: Series[] = [];
  for (let number = 0; number < count; number += 1) {
    const template = syntheticInstance({
      seed: index * 8 + number + 1,
      modality,
      rows: 8,
      columns: 8,
      studyInstanceUid,
      seriesInstanceUid: uid(random),
      sopInstanceUid: PLACEHOLDER_UID,
      studyDate: date,
      studyTime: time,
      acquisitionDate: date,
      acquisitionTime: time,
      timezoneOffset: '+0000',
      patientId: patientIdOf(patient),
      accessionNumber: `A${String(index).padStart(8, '0')}`,
      instanceNumber: FIRST_INSTANCE_NUMBER,
      elements: [
        { tag: '00100010', vr: 'PN', value: name },
        { tag: '00100030', vr: 'DA', value: `19${40 + (patient % 60)}0${1 + (patient % 9)}15` },
        { tag: '00080080', vr: 'LO', value: 'Synthetic Hospital' },
        { tag: '00081010', vr: 'SH', value: `${modality}-${1 + (index % 4)}` },
        { tag: '0008103E', vr: 'LO', value: `Series ${number + 1} of ${count}` },
        { tag: '00180015', vr: 'CS', value: 'CHEST' },
        { tag: '00181030', vr: 'LO', value: 'Routine protocol' },
        { tag: '00200011', vr: 'IS', value: String(number + 1) },
      ],
    });
    const { header } = await readAndDigest([template]);
    const { attributes } = header;
    mkdirSync(dirname(join(directory, blobRefOf({ identity: header.identity, arrivalId: '0', digest: '0' }))), {
      recursive: true,
      mode: 0o700,
    });
    const bytes = Buffer.from(template.buffer, template.byteOffset, template.byteLength);
    series.push({
      instances: Math.floor(size / count) + Number(number < size % count),
      template,
      uidOffsets: offsetsOf(bytes, Buffer.from(PLACEHOLDER_UID, 'latin1')),
      // (0020,0013) IS, its length, its value.
      numberOffset: bytes.indexOf(Buffer.from('20001300495304', 'hex')) + 8,
      // Preamble, prefix, and the group length of the file meta (PS3.10 7.1), which says where that ends.
      dataSetOffset: 144 + bytes.readUInt32LE(140),
      identity: header.identity,
      attributes,
      rank: classify({ attributes, receivedAt: now }, { asOf: now, policy: defaultTierPolicy }).rank,
    });
  }
  return series;
}

function makeInstance(
  series: Series,
  index: number,
  arrivalId: string,
  receivedAt: number,
  random: () => number,
): MadeInstance {
  const file = Buffer.from(series.template);
  const sopInstanceUid = uid(random);
  for (const offset of series.uidOffsets) file.write(sopInstanceUid, offset, 'latin1');
  const instanceNumber = String(FIRST_INSTANCE_NUMBER + index);
  file.write(instanceNumber, series.numberOffset, 'latin1');
  const digest = createHash('sha256').update(file.subarray(series.dataSetOffset)).digest('hex');
  const identity = { ...series.identity, sopInstanceUid };
  const blobRef = blobRefOf({ identity, arrivalId, digest });
  return {
    file,
    acceptance: {
      version: {
        arrivalId,
        identity,
        digest,
        bytes: file.length,
        blobRef,
        receivedAt,
        oddities: [],
        presence: 'kept' as const,
      },
      attributes: { ...series.attributes, SOPInstanceUID: sopInstanceUid, InstanceNumber: instanceNumber },
      source: 'modality',
      urgency: null,
      deliveries: [{ destinationId: DESTINATION, rank: series.rank }],
    },
  };
}

function offsetsOf(bytes: Buffer, pattern: Buffer): number[] {
  const offsets: number[] = [];
  for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + 1)) offsets.push(at);
  return offsets;
}

function patientIdOf(patient: number): string {
  return `P${String(patient).padStart(7, '0')}`;
}

/** As long as the placeholder. */
function uid(random: () => number): string {
  const digits = () => String(Math.floor(random() * 1e13)).padStart(13, '0');
  return `2.25.1${digits()}${digits()}${digits().slice(1)}`;
}
