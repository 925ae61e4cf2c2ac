/** The age that a tier ends at, in ms. */
export function endOf({ maxAgeMs = Number.POSITIVE_INFINITY }: { readonly maxAgeMs?: number | undefined }): number {
  return maxAgeMs;
}
