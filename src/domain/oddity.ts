/**
 * What was odd about an instance that was accepted all the same.
 *
 * - `truncated`: the data set ends inside an element.
 * - `unreadable-tail`: from some point on the bytes are no data set; what identifies the instance came before.
 * - `transfer-syntax-missing`: file meta names none; it was judged by the first element.
 * - `uid-nonstandard`: a UID breaks PS3.5 section 9.1; it is kept as it came, files bear a hashed name.
 */
export type Oddity = 'truncated' | 'unreadable-tail' | 'transfer-syntax-missing' | 'uid-nonstandard';
