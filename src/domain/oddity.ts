/**
 * What was odd about an instance that was accepted all the same.
 *
 * - `truncated`: the data set ends inside an element.
 * - `unreadable-tail`: from some point on the bytes are no data set; what identifies the instance came before.
 * - `element-malformed`: something that no data set should hold was stepped over, such as an item outside a sequence.
 * - `value-too-long`: a value that is read from headers is longer than it ever should be; it was passed over.
 * - `file-meta-missing`: there was no preamble and prefix, or no file meta. The stored file has one.
 * - `file-meta-differs`: file meta names another instance or SOP class than the data set, which counts.
 * - `identity-from-file-meta`: the data set does not name its SOP class or instance, file meta does.
 * - `transfer-syntax-missing`: nothing usable names it; it was judged by the first element. The stored
 *   file's meta names it.
 * - `transfer-syntax-mismatch`: the data set is encoded otherwise than its transfer syntax says; it was read as it is.
 * - `compression-unknown`: no transfer syntax is named, and pixel data is compressed, nobody knows how.
 * - `uid-nonstandard`: a UID breaks PS3.5 section 9.1; it is kept as it came, files bear a hashed name.
 * - `charset-undeclared`, `charset-unknown`, `charset-malformed`: text has characters that its character set does not
 *   declare, one that nobody knows, or bytes that it does not have; what is searched by is shown as well as can be.
 */
export type Oddity =
  | 'truncated'
  | 'unreadable-tail'
  | 'element-malformed'
  | 'value-too-long'
  | 'file-meta-missing'
  | 'file-meta-differs'
  | 'identity-from-file-meta'
  | 'transfer-syntax-missing'
  | 'transfer-syntax-mismatch'
  | 'compression-unknown'
  | 'uid-nonstandard'
  | 'charset-undeclared'
  | 'charset-unknown'
  | 'charset-malformed';
