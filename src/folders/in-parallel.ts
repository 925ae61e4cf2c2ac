/**
 * Works on items, at most `concurrency` at a time, and gives results as they come; the next item is asked for when there is
 * a place for it. After a failure, of the work or of the items, no more are taken: what is under way ends and is given, then the first error is
 * thrown. Ending the iteration early waits for what is under way.
 */
export async function* inParallel<Item, Result>(
  items: AsyncIterable<Item>,
  concurrency: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  type Ended = { readonly of: symbol } & ({ readonly result: Result } | { readonly error: unknown });
  const iterator = items[Symbol.asyncIterator]();
  const running = new Map<symbol, Promise<Ended>>();
  let failure: { readonly error: unknown } | undefined;
  let exhausted = false;
  try {
    for (;;) {
      while (!exhausted && failure === undefined && running.size < concurrency) {
        let step: IteratorResult<Item>;
        try {
          step = await iterator.next();
        } catch (error) {
          failure = { error };
          exhausted = true;
          break;
        }
        exhausted = step.done === true;
        if (step.done) break;
        const of = Symbol('item');
        running.set(
          of,
          work(step.value).then(
            (result) => ({ of, result }),
            (error: unknown) => ({ of, error }),
          ),
        );
      }
      if (running.size === 0) break;
      const ended = await Promise.race(running.values());
      running.delete(ended.of);
      if ('result' in ended) yield ended.result;
      else failure ??= { error: ended.error };
    }
    if (failure !== undefined) throw failure.error;
  } finally {
    await Promise.all(running.values());
    if (!exhausted) await iterator.return?.();
  }
}
