import { type DicomJson, TAGS } from '../dicom/dicom-json.ts';
import { SpillwayError } from '../errors.ts';
import type { ArchivedInstance, PacsArchive } from './pacs-archive.ts';

/** A QIDO-RS request (PS3.18 section 10.6) to a test PACS. */
export interface PacsSearch {
  readonly level: 'studies' | 'series' | 'instances';
  /** UIDs match by keyword or tag, several by comma; `limit` and `offset`; others are ignored. */
  readonly parameters: URLSearchParams;
  readonly rootUrl: string;
  readonly studyInstanceUid: string | undefined;
  readonly seriesInstanceUid: string | undefined;
}

const UID_KEYS = [
  { property: 'studyInstanceUid', names: ['StudyInstanceUID', TAGS.studyInstanceUid] },
  { property: 'seriesInstanceUid', names: ['SeriesInstanceUID', TAGS.seriesInstanceUid] },
  { property: 'sopInstanceUid', names: ['SOPInstanceUID', TAGS.sopInstanceUid] },
] as const;

/** @throws SpillwayError `SPILLWAY_OPTION_INVALID` for a limit or offset that is no whole number */
export async function search(archive: PacsArchive, request: PacsSearch): Promise<readonly DicomJson[]> {
  const offset = wholeNumber(request.parameters, 'offset') ?? 0;
  const limit = wholeNumber(request.parameters, 'limit') ?? Number.POSITIVE_INFINITY;
  const groups = new Map<string, ArchivedInstance[]>();
  for (const instance of archive.instances(request.studyInstanceUid)) {
    if (!matches(instance, request)) continue;
    const key = keyOf(instance, request.level);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [instance]);
    else group.push(instance);
  }
  const page = [...groups.values()].slice(offset, offset + limit);
  const results: DicomJson[] = [];
  for (const group of page) results.push(await describe(archive, request, group));
  return results;
}

function matches(instance: ArchivedInstance, request: PacsSearch): boolean {
  const { seriesInstanceUid, parameters } = request;
  if (seriesInstanceUid !== undefined && seriesInstanceUid !== instance.seriesInstanceUid) return false;
  return UID_KEYS.every(({ property, names }) => {
    const wanted = names.flatMap((name) => parameters.getAll(name)).flatMap((value) => value.split(/[,\\]/));
    return wanted.length === 0 || wanted.includes(instance[property]);
  });
}

function keyOf(instance: ArchivedInstance, level: PacsSearch['level']): string {
  if (level === 'studies') return instance.studyInstanceUid;
  return level === 'series' ? `${instance.studyInstanceUid}/${instance.seriesInstanceUid}` : instance.sopInstanceUid;
}

async function describe(
  archive: PacsArchive,
  request: PacsSearch,
  group: readonly ArchivedInstance[],
): Promise<DicomJson> {
  const [first] = group;
  if (first === undefined) return {};
  const header = await archive.headerOf(first);
  const { StudyDate, StudyTime, Modality } = header.attributes;
  const study = {
    ...element(TAGS.studyDate, 'DA', StudyDate),
    ...element(TAGS.studyTime, 'TM', StudyTime),
    ...element(TAGS.studyInstanceUid, 'UI', first.studyInstanceUid),
  };
  const path = `${request.rootUrl}/studies/${encodeURIComponent(first.studyInstanceUid)}`;
  if (request.level === 'studies') {
    const series = new Map(group.map((instance) => [instance.seriesInstanceUid, instance]));
    const headers = await Promise.all([...series.values()].map((instance) => archive.headerOf(instance)));
    const modalities = new Set(headers.flatMap(({ attributes }) => attributes.Modality ?? []));
    return {
      ...study,
      [TAGS.modalitiesInStudy]: { vr: 'CS', Value: [...modalities] },
      ...element(TAGS.retrieveUrl, 'UR', path),
      ...element(TAGS.numberOfStudyRelatedSeries, 'IS', series.size),
      ...element(TAGS.numberOfStudyRelatedInstances, 'IS', group.length),
    };
  }
  const inSeries = {
    ...study,
    ...element(TAGS.modality, 'CS', Modality),
    ...element(TAGS.seriesInstanceUid, 'UI', first.seriesInstanceUid),
  };
  const seriesPath = `${path}/series/${encodeURIComponent(first.seriesInstanceUid)}`;
  if (request.level === 'series') {
    return {
      ...inSeries,
      ...element(TAGS.retrieveUrl, 'UR', seriesPath),
      ...element(TAGS.numberOfSeriesRelatedInstances, 'IS', group.length),
    };
  }
  return {
    ...inSeries,
    ...element(TAGS.sopClassUid, 'UI', header.identity.sopClassUid),
    ...element(TAGS.sopInstanceUid, 'UI', first.sopInstanceUid),
    ...element(TAGS.retrieveUrl, 'UR', `${seriesPath}/instances/${encodeURIComponent(first.sopInstanceUid)}`),
  };
}

function element(tag: string, vr: string, value: string | number | undefined): DicomJson {
  return { [tag]: value === undefined ? { vr } : { vr, Value: [value] } };
}

function wholeNumber(parameters: URLSearchParams, name: string): number | undefined {
  const text = parameters.get(name);
  if (text === null) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${name} to be a whole number, got ${JSON.stringify(text.slice(0, 40))}.`,
  );
}
