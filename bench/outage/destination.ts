import { Orthanc } from '../support/orthanc.ts';
import { watchingScript } from './auto-routing.ts';

/** An instance that came to the destination. */
export interface Received {
  readonly sopInstanceUid: string;
  /** ms since the epoch. */
  readonly at: number;
}

/** B: an Orthanc that is down at first. It says of each instance that it receives. */
export class DestinationB {
  readonly httpPort: number;
  readonly dicomPort: number;
  readonly #directory: string;
  #orthanc: Orthanc | undefined;
  /** ms since the epoch. */
  upAt = 0;

  constructor(directory: string, httpPort: number, dicomPort: number) {
    this.#directory = directory;
    this.httpPort = httpPort;
    this.dicomPort = dicomPort;
  }

  get dicomWebUrl(): string {
    return `http://127.0.0.1:${this.httpPort}/dicom-web`;
  }

  async start(): Promise<void> {
    this.#orthanc = await Orthanc.start({
      directory: this.#directory,
      httpPort: this.httpPort,
      dicomPort: this.dicomPort,
      settings: { LuaScripts: [watchingScript(this.#directory)] },
    });
    this.upAt = Date.now();
  }

  /** Everything that came, what it held already included, in that order. */
  get received(): readonly Received[] {
    const lines = this.#orthanc?.lines ?? [];
    return lines.flatMap(({ text, at }) => {
      const sopInstanceUid = /received ([0-9.]+)/.exec(text)?.[1];
      return sopInstanceUid === undefined ? [] : [{ sopInstanceUid, at }];
    });
  }

  async count(): Promise<number> {
    return (await this.#orthanc?.count()) ?? 0;
  }

  async stop(): Promise<void> {
    await this.#orthanc?.kill();
  }
}
