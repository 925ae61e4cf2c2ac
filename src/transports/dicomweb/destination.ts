import type { Destination } from '../transport.ts';
import { HttpClient } from './http-client.ts';
import { type DicomwebDestinationOptions, settingsOf } from './options.ts';
import { lookUp, probe } from './qido.ts';
import { store } from './stow.ts';
import { readBack } from './wado.ts';

export type { DicomwebDestinationOptions } from './options.ts';

/**
 * A peer that is reached by DICOMweb (PS3.18 chapter 10): instances go out by STOW-RS, are looked up by QIDO-RS and
 * read back by WADO-RS.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function dicomwebDestination(options: DicomwebDestinationOptions): Destination {
  const settings = settingsOf(options);
  const { id, verify, maxConcurrency, maxInstancesPerRequest, maxBytesPerRequest } = settings;
  const client = new HttpClient(settings);
  return {
    id,
    transport: {
      supports: { lookUp: true, readBack: true },
      batch: { maxInstances: maxInstancesPerRequest, maxBytes: maxBytesPerRequest },
      send: (instances, signal) => store(client, instances, signal, Date.now),
      probe: (signal) => probe(client, signal),
      lookUp: (instances, signal) => lookUp(client, instances, signal),
      readBack: (instance, signal) => readBack(client, instance, signal),
      close: async () => client.close(),
    },
    ...(verify === undefined ? {} : { verify }),
    ...(maxConcurrency === undefined ? {} : { maxConcurrency }),
  };
}
