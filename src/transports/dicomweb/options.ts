import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { SecureContextOptions } from 'node:tls';
import type { VerifyLevel } from '../../domain/delivery.ts';
import { messageOf, SpillwayError } from '../../errors.ts';

/** How to reach one DICOMweb peer. */
export interface DicomwebDestinationOptions {
  /** Names the destination in routes, events and the catalog; never reuse one for another peer. */
  readonly id: string;
  /** The DICOMweb root that `/studies` is under: http or https, without query. User and password become Basic authorization. */
  readonly url: string | URL;
  /**
   * Sent with each request; a function is asked before each one, so that it can give a token that expires. What the
   * protocol needs (Accept, Content-Type, Content-Length) cannot be replaced.
   * @default none
   */
  readonly headers?:
    | Readonly<Record<string, string>>
    | (() => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>);
  /** How far evidence must go before a delivery counts. @default 'found' */
  readonly verify?: VerifyLevel;
  /** Requests in flight at the most. @default 8 */
  readonly maxConcurrency?: number;
  /** Instances in one Store request at the most. @default 20 */
  readonly maxInstancesPerRequest?: number;
  /** Bytes of instances in one Store request at the most; a larger instance goes alone. @default 33554432 (32 MiB) */
  readonly maxBytesPerRequest?: number;
  /** Milliseconds that connecting may take, TLS included. @default 5000 */
  readonly connectTimeoutMs?: number;
  /** Milliseconds in which no byte moves either way, waiting for the answer included. @default 60000 */
  readonly idleTimeoutMs?: number;
  /** For https: authorities to trust instead of Node's own, and the certificate to show. @default Node's authorities, none shown */
  readonly tls?: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>;
}

/** The options checked and complete. */
export interface DicomwebSettings {
  readonly id: string;
  readonly url: URL;
  readonly headers: () => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>;
  readonly verify: VerifyLevel | undefined;
  readonly maxConcurrency: number | undefined;
  readonly maxInstancesPerRequest: number;
  readonly maxBytesPerRequest: number;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly tls: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>;
}

const MIB = 1024 * 1024;
/** The longest delay that a timer can count. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const VERIFY_LEVELS: readonly VerifyLevel[] = ['answered', 'found', 'compared'];

/** @throws SpillwayError `SPILLWAY_OPTION_INVALID` */
export function settingsOf(options: DicomwebDestinationOptions): DicomwebSettings {
  const { id, headers, verify, maxConcurrency, tls } = options;
  if (typeof id !== 'string' || id === '') throw invalid('id', 'a string that is not empty', id);
  if (verify !== undefined && !VERIFY_LEVELS.includes(verify)) {
    throw invalid('verify', `one of ${VERIFY_LEVELS.join(', ')}`, verify);
  }
  const url = rootOf(options.url);
  if (tls !== undefined && url.protocol !== 'https:')
    throw invalid('tls', 'to be left out with an http url', 'tls options');
  return {
    id,
    url,
    headers: headersOf(headers),
    verify,
    maxConcurrency: maxConcurrency === undefined ? undefined : count('maxConcurrency', maxConcurrency),
    maxInstancesPerRequest: count('maxInstancesPerRequest', options.maxInstancesPerRequest ?? 20),
    maxBytesPerRequest: count('maxBytesPerRequest', options.maxBytesPerRequest ?? 32 * MIB),
    connectTimeoutMs: count('connectTimeoutMs', options.connectTimeoutMs ?? 5000, MAX_TIMEOUT_MS),
    idleTimeoutMs: count('idleTimeoutMs', options.idleTimeoutMs ?? 60_000, MAX_TIMEOUT_MS),
    tls: tls ?? {},
  };
}

function rootOf(given: string | URL): URL {
  const url = URL.canParse(String(given)) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    // It may hold a password, so that only its beginning is said.
    throw invalid('url', 'a DICOMweb root such as https://pacs.example/dicom-web', url?.origin ?? typeof given);
  }
  url.pathname = url.pathname.replace(/\/+$/, '');
  return url;
}

function headersOf(headers: DicomwebDestinationOptions['headers']): DicomwebSettings['headers'] {
  if (typeof headers === 'function') return headers;
  const fixed = headers ?? {};
  for (const [name, value] of Object.entries(fixed)) {
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch (error) {
      throw invalid('headers', 'names and values as HTTP allows them', messageOf(error));
    }
  }
  return () => fixed;
}

function count(name: string, value: number, maximum = Number.MAX_SAFE_INTEGER): number {
  if (Number.isInteger(value) && value >= 1 && value <= maximum) return value;
  throw invalid(name, `a whole number from 1 to ${maximum}`, value);
}

function invalid(name: string, expected: string, came: unknown): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected \`${name}\` of a DICOMweb destination to be ${expected}, got ${JSON.stringify(came) ?? String(came)}.`,
  );
}
