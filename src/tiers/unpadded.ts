/**
 * A header value without its padding (PS3.5 section 6.2), or undefined when nothing is left: an empty value is as good
 * as none. Values that come from elsewhere than spillway's own reader may be padded.
 */
export function unpadded(attributes: Readonly<Record<string, string>>, keyword: string): string | undefined {
  return attributes[keyword]?.replace(/[\0 ]+$/, '') || undefined;
}
