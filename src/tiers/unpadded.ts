const NUL = 0;
const SPACE = 0x20;

/**
 * A header value without its padding (PS3.5 section 6.2), or undefined when nothing is left: an empty value is as good
 * as none. Values that come from elsewhere than spillway's own reader may be padded.
 *
 * @param keepsLeading - Leading space is kept.
 */
export function unpadded(
  attributes: Readonly<Record<string, string>>,
  keyword: string,
  keepsLeading = false,
): string | undefined {
  const value = attributes[keyword];
  // Whoever calls from JavaScript may have put anything there.
  if (typeof value !== 'string') return undefined;
  let end = value.length;
  while (end > 0 && (value.charCodeAt(end - 1) === NUL || value.charCodeAt(end - 1) === SPACE)) end -= 1;
  let start = 0;
  while (!keepsLeading && start < end && value.charCodeAt(start) === SPACE) start += 1;
  return value.slice(start, end) || undefined;
}
