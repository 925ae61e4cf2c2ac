import type { DeliveryFilter } from './domain/delivery.ts';
import { atLeast, checkKeys, invalid, isTexts, requireText } from './options.ts';
import type { DeliverySelection, DiscardOptions, RedriveOptions } from './replay/decisions.ts';
import type { ReverifyOptions } from './replay/reverify.ts';

const FILTER_TEXTS = ['destinationId', 'studyInstanceUid', 'sopInstanceUid', 'sopClassUid', 'reason'] as const;
const FILTER_INSTANTS = ['receivedFrom', 'receivedBefore'] as const;

/** Checks what `quarantined` is given. */
export function checkDeliveryFilter(filter: DeliveryFilter): DeliveryFilter {
  checkKeys('quarantined', filter, [...FILTER_TEXTS, ...FILTER_INSTANTS]);
  return filterOf(filter);
}

/** Checks what `redrive` is given: what is misspelt must not be taken for "all". */
export function checkRedrive(given: RedriveOptions): RedriveOptions {
  checkKeys('redrive', given, [...FILTER_TEXTS, ...FILTER_INSTANTS, 'arrivalIds', 'all', 'by', 'signal']);
  requireText('by', given.by);
  return { ...selectionOf('redrive', given), by: given.by, signal: given.signal };
}

/** Checks what `discard` is given. Its `reason` is the decision's own: it is no filter. */
export function checkDiscard(given: DiscardOptions): DiscardOptions {
  checkKeys('discard', given, [...FILTER_TEXTS, ...FILTER_INSTANTS, 'arrivalIds', 'all', 'state', 'by', 'signal']);
  const { state = 'quarantined', reason, by, signal, ...which } = given;
  requireText('by', by);
  requireText('reason', reason);
  if (state !== 'quarantined' && state !== 'open') throw invalid('state', '"quarantined" or "open"', state);
  return { ...selectionOf('discard', which), state, reason, by, signal };
}

function selectionOf(name: string, given: DeliverySelection): DeliverySelection {
  const { arrivalIds, all } = given;
  if (arrivalIds !== undefined && (!isTexts(arrivalIds) || arrivalIds.length === 0)) {
    throw invalid('arrivalIds', 'an array of at least one arrival id', arrivalIds);
  }
  if (all !== undefined && all !== true) throw invalid('all', 'true, or left out', all);
  const filter = filterOf(given);
  const isEmpty = arrivalIds === undefined && Object.keys(filter).length === 0;
  if (isEmpty && all === undefined) {
    throw invalid(name, 'given which deliveries, by a filter or arrivalIds, or `all: true` for every one', {});
  }
  if (!isEmpty && all !== undefined) throw invalid(name, 'given either `all: true` or a filter', 'both');
  return { ...filter, ...(arrivalIds !== undefined && { arrivalIds }) };
}

/** What is given of a filter, without what is undefined. */
function filterOf(given: DeliveryFilter): DeliveryFilter {
  const filter: Record<string, string | number> = {};
  for (const name of FILTER_TEXTS) {
    const value = given[name];
    if (value === undefined) continue;
    requireText(name, value);
    filter[name] = value;
  }
  for (const name of FILTER_INSTANTS) {
    const value = given[name];
    if (value === undefined) continue;
    if (!Number.isSafeInteger(value)) throw invalid(name, 'a whole number of ms since the epoch', value);
    filter[name] = value;
  }
  const { receivedFrom, receivedBefore } = given;
  if (receivedFrom !== undefined && receivedBefore !== undefined && receivedFrom > receivedBefore) {
    throw invalid('receivedBefore', `not before receivedFrom (${receivedFrom})`, receivedBefore);
  }
  return filter;
}

/**
 * Checks what `reverify` is given: a span that holds nothing would be reported as whole.
 *
 * @param now - ms since the epoch.
 */
export function checkReverify(given: ReverifyOptions, now: number): ReverifyOptions {
  checkKeys('reverify', given, ['destination', 'since', 'until', 'maxPerSecond', 'onProgress', 'signal']);
  const { destination, since, until, maxPerSecond, onProgress } = given;
  requireText('destination', destination);
  for (const [name, value] of [['since', since], ...(until === undefined ? [] : [['until', until]])] as const) {
    if (!Number.isSafeInteger(value)) throw invalid(`${name}`, 'a whole number of ms since the epoch', value);
  }
  if (since > now) throw invalid('since', `an instant that is not after now (${now} ms since the epoch)`, since);
  if (until !== undefined && until <= since) throw invalid('until', `later than since (${since})`, until);
  if (maxPerSecond !== undefined) atLeast('maxPerSecond', 1, maxPerSecond);
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw invalid('onProgress', 'a function', onProgress);
  return given;
}
