/** What a task waits for: it is resumed by the function that is given. */
export type Wait = (resume: () => void) => void;

/** Work in steps of virtual time, written down in its order: `yield` waits, `yield*` does another task first. */
export type Task<T = void> = Generator<Wait, T, void>;

/** Runs a task to its end. It may end before this returns; one that is never resumed just stays where it is. */
export function run<T>(task: Task<T>, onEnd: (result: T) => void): void {
  const step = () => {
    const { done, value } = task.next();
    if (done) onEnd(value);
    else value(step);
  };
  step();
}

/** Waits for one call with a value. */
export function* heard<T>(ask: (answer: (value: T) => void) => void): Task<T> {
  const answers: T[] = [];
  yield (resume) =>
    ask((value) => {
      answers.push(value);
      resume();
    });
  return answers[0] as T;
}
