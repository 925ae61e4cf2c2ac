import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import PQueue from 'p-queue';
import { toNodeListener } from '../../examples/support/node-adapter.ts';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { createStowHandler } from '../../src/handler/index.ts';

/**
 * A PACS with a known capacity behind a real STOW-RS server: so many instances at once, each for so long; more than that
 * wait. It keeps nothing.
 */
export class ModelledPacs {
  /** What storing one instance takes, in ms. */
  serviceMs: number;
  /** It answers 503 to everything. */
  isBusy = false;
  stored = 0;
  readonly #workers: PQueue;
  readonly #port: number;
  #server: Server | undefined;

  private constructor(options: { readonly atOnce: number; readonly serviceMs: number; readonly port: number }) {
    this.serviceMs = options.serviceMs;
    this.#workers = new PQueue({ concurrency: options.atOnce });
    this.#port = options.port;
  }

  static async create(options: { readonly atOnce: number; readonly serviceMs: number }): Promise<ModelledPacs> {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    probe.close();
    const pacs = new ModelledPacs({ ...options, port });
    await pacs.start();
    return pacs;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const handler = createStowHandler({
      accept: async (source) => {
        const { header, digest, bytes } = await readAndDigest(source);
        await this.#workers.add(() => pause(this.serviceMs));
        this.stored += 1;
        return {
          outcome: 'created',
          identity: header.identity,
          arrivalId: String(this.stored),
          digest,
          bytes,
          tier: '',
          urgency: 'unknown',
          tierReason: '',
          destinations: [],
          oddities: [],
        };
      },
    });
    this.#server = createServer(
      toNodeListener(async (request) => {
        if (request.method === 'GET') return Response.json([]);
        if (!this.isBusy) return handler(request);
        await request.arrayBuffer();
        return new Response(null, { status: 503 });
      }),
    );
    await once(this.#server.listen(this.#port, '127.0.0.1'), 'listening');
  }

  /** Connections are cut and refused from now on. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }
}
