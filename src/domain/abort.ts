/** What every call that may take long accepts. */
export interface AbortableOptions {
  /** Aborting rejects the call with `SPILLWAY_ABORTED`; each call says what happens to work in flight. */
  readonly signal?: AbortSignal | undefined;
}
