import type { IncomingMessage } from 'node:http';
import { stringsOf, TAGS } from '../../dicom/dicom-json.ts';
import type { InstanceIdentity } from '../../domain/identity.ts';
import type { ProbeOutcome } from '../transport.ts';
import { type HttpClient, HttpFailure, parseJson, readText } from './http-client.ts';

const PAGE_SIZE = 500;
/** Bounds one look-up to a quarter of a million instances a series. */
const MAX_PAGES = 500;
/** A page of instances with every attribute that a peer may add. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
const MAX_PROBE_BYTES = 256 * 1024;
const ACCEPT_JSON = { accept: 'application/dicom+json' };
const NOT_ALIVE: ReadonlyMap<number, string> = new Map([
  [401, 'check the credentials given in `headers`'],
  [403, 'check that these credentials may query'],
  [404, 'check the DICOMweb root in `url`'],
]);

/** Whether the QIDO-RS root answers (PS3.18 section 10.6): any answer that is no server error and no wrong address. */
export async function probe(client: HttpClient, signal: AbortSignal): Promise<ProbeOutcome> {
  const request = { method: 'GET', path: '/studies?limit=1', headers: ACCEPT_JSON } as const;
  try {
    return await client.exchange(request, signal, async (response) => {
      const status = response.statusCode ?? 0;
      // Read only so that the connection can be used again; a peer that ignores `limit` may send a lot.
      await readText(response, MAX_PROBE_BYTES);
      const check =
        NOT_ALIVE.get(status) ?? (status >= 300 && status < 400 ? 'it is redirected; check `url`' : undefined);
      if (check !== undefined) return { alive: false, reason: `HTTP ${status}: ${check}` };
      return status >= 500 ? { alive: false, reason: `HTTP ${status}` } : { alive: true };
    });
  } catch (error) {
    if (error instanceof HttpFailure) return { alive: false, reason: error.message };
    throw error;
  }
}

/**
 * Which of the instances a query shows, asked series by series (PS3.18 section 10.6); null when a query failed or
 * could not be followed to its end.
 */
export async function lookUp(
  client: HttpClient,
  instances: readonly InstanceIdentity[],
  signal: AbortSignal,
): Promise<ReadonlySet<string> | null> {
  const found = new Set<string>();
  for (const [path, wanted] of groupBySeries(instances)) {
    const shown = await searchSeries(client, path, wanted, signal);
    if (shown === null) return null;
    for (const uid of shown) found.add(uid);
  }
  return found;
}

function groupBySeries(instances: readonly InstanceIdentity[]): ReadonlyMap<string, ReadonlySet<string>> {
  const bySeries = new Map<string, Set<string>>();
  for (const instance of instances) {
    const path = seriesPath(instance);
    const uids = bySeries.get(path) ?? new Set<string>();
    bySeries.set(path, uids.add(instance.sopInstanceUid));
  }
  return bySeries;
}

/** `/studies/…/series/…`, encoded, since a UID may be odd. */
export function seriesPath(instance: InstanceIdentity): string {
  const study = encodeURIComponent(instance.studyInstanceUid);
  return `/studies/${study}/series/${encodeURIComponent(instance.seriesInstanceUid)}`;
}

async function searchSeries(
  client: HttpClient,
  path: string,
  wanted: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<ReadonlySet<string> | null> {
  const [only] = wanted;
  const filter = wanted.size === 1 && only !== undefined ? `SOPInstanceUID=${encodeURIComponent(only)}&` : '';
  const seen = new Set<string>();
  const found = new Set<string>();
  let firstPageSize = 0;
  let offset = 0;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const uids = await searchPage(client, `${path}/instances?${filter}limit=${PAGE_SIZE}&offset=${offset}`, signal);
    if (uids === null) return null;
    if (page === 0) firstPageSize = uids.length;
    const seenBefore = seen.size;
    for (const uid of uids) {
      seen.add(uid);
      if (wanted.has(uid)) found.add(uid);
    }
    // A page may be shorter than asked for without being the last one: peers have limits of their own.
    if (uids.length === 0 || found.size === wanted.size) return found;
    if (seen.size === seenBefore) {
      // It ignores `offset`: what it gave is everything, unless it kept to `limit` and cut the rest off.
      return firstPageSize === PAGE_SIZE ? null : found;
    }
    offset += uids.length;
  }
  return null;
}

async function searchPage(client: HttpClient, path: string, signal: AbortSignal): Promise<readonly string[] | null> {
  try {
    return await client.exchange({ method: 'GET', path, headers: ACCEPT_JSON }, signal, readPage);
  } catch (error) {
    if (error instanceof HttpFailure) return null;
    throw error;
  }
}

async function readPage(response: IncomingMessage): Promise<readonly string[] | null> {
  const status = response.statusCode ?? 0;
  const text = await readText(response, MAX_PAGE_BYTES);
  // Many peers say 404 of a study or series that they do not have.
  if (status === 204 || status === 404 || (status === 200 && text?.trim() === '')) return [];
  const page = parseJson(text);
  if (status !== 200 || !Array.isArray(page)) return null;
  return page.flatMap((item: unknown) => stringsOf(item, TAGS.sopInstanceUid).slice(0, 1));
}
