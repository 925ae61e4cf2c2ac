const NUL = 0;
const SPACE = 0x20;

/**
 * A value without its padding: trailing NUL and space, and leading space, mean nothing in any VR that is read from
 * headers (PS3.5 section 6.2). Other white space is not padding: it must not vanish from a UID. In linear time, unlike a
 * regular expression.
 *
 * @param keepsLeading - Leading space is kept.
 */
export function trimPadding(text: string, keepsLeading = false): string {
  let start = 0;
  let end = text.length;
  while (end > 0 && (text.charCodeAt(end - 1) === NUL || text.charCodeAt(end - 1) === SPACE)) end -= 1;
  while (!keepsLeading && start < end && text.charCodeAt(start) === SPACE) start += 1;
  return text.slice(start, end);
}
