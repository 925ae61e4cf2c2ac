import { SpillwayError } from '../errors.ts';
import type { Transport } from '../transports/transport.ts';

/** A transport whose calls end when their signal aborts, whatever the one behind it does: closing is bounded in time. */
export function abortable(transport: Transport): Transport {
  return {
    get supports() {
      return transport.supports;
    },
    get batch() {
      return transport.batch;
    },
    send: (instances, signal) => unlessAborted(signal, () => transport.send(instances, signal)),
    probe: (signal) => unlessAborted(signal, () => transport.probe(signal)),
    lookUp: (instances, signal) => unlessAborted(signal, () => transport.lookUp(instances, signal)),
    readBack: (instance, signal) => unlessAborted(signal, () => transport.readBack(instance, signal)),
    requestCommitment: (request, signal) =>
      unlessAborted(signal, async () => (await transport.requestCommitment?.(request, signal)) ?? null),
    onCommitmentReport: (listener) => transport.onCommitmentReport?.(listener),
    close: () => transport.close(),
  };
}

async function unlessAborted<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  const cleanup = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    // What the transport makes of the abort by itself comes first, and says more.
    const giveUp = () => setImmediate(() => reject(givenUp(signal)));
    if (signal.aborted) giveUp();
    else signal.addEventListener('abort', giveUp, { once: true, signal: cleanup.signal });
  });
  aborted.catch(() => {});
  try {
    return await Promise.race([call(), aborted]);
  } finally {
    cleanup.abort();
  }
}

function givenUp(signal: AbortSignal): SpillwayError {
  return new SpillwayError('SPILLWAY_ABORTED', 'The call of the transport was given up by its signal.', {
    cause: signal.reason,
  });
}
