import { parentPort, Worker, workerData } from 'node:worker_threads';
import { messageOf, SpillwayError } from '../../errors.ts';
import type { CheckStart, WorkerError, WorkerRequest, WorkerResponse, WorkerStart } from './messages.ts';
import { isDamage } from './result-codes.ts';
import { isSound } from './snapshot.ts';
import { openSqliteDatabase, type SqliteDatabase, toStoreError } from './sqlite-database.ts';

/** The thread of the SQLite catalog: one call after the other, in the order in which they came. */
function serve(port: NonNullable<typeof parentPort>, options: WorkerStart): void {
  const { file } = options;
  const answer = (response: WorkerResponse): void => port.postMessage(response);
  let database: SqliteDatabase;
  try {
    database = openSqliteDatabase(options);
  } catch (error) {
    answer({ id: 0, error: describe(toStoreError(error, file)) });
    return;
  }
  let damage: unknown = null;
  let snapshot: Promise<unknown> = Promise.resolve();
  const markDamaged = (): void => {
    try {
      database.markDamaged();
    } catch {
      // The next opening finds it out by itself, or this one's calls have failed.
    }
  };
  const fail = (id: number, error: unknown): void => {
    if (damage === null && isDamage(error)) {
      damage = error;
      markDamaged();
    }
    answer({ id, error: describe(toStoreError(error, file)) });
  };
  // While a snapshot is copied in another thread, calls wait for the end of its step.
  let isCopying = false;
  const waiting: WorkerRequest[] = [];
  const serveWaiting = (): void => {
    for (const request of waiting.splice(0)) carryOut(request);
  };
  const copy = async (): Promise<boolean> => {
    isCopying = true;
    const goOn = () => {
      isCopying = false;
      serveWaiting();
    };
    const check = (path: string) => {
      goOn();
      return checkElsewhere(path);
    };
    try {
      return await database.snapshot({ betweenSteps: serveWaiting, check });
    } finally {
      goOn();
    }
  };
  const carryOut = ({ id, method, parameters }: WorkerRequest): void => {
    try {
      if (method === 'close') {
        void snapshot.finally(() => {
          try {
            database.close();
            answer({ id, result: undefined });
          } catch (error) {
            fail(id, error);
          }
        });
        return;
      }
      // What is written to a damaged catalog may be gone with it.
      if (damage !== null) throw damage;
      if (method === 'snapshot') {
        snapshot = snapshot.then(copy).then(
          (result) => answer({ id, result }),
          (error) => {
            // What is taken goes on being taken: its files are there for the rebuild.
            if (error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_DAMAGED') markDamaged();
            fail(id, error);
          },
        );
        return;
      }
      const operation: (...parameters: never[]) => unknown = database.operations[method];
      answer({ id, result: operation(...(parameters as never[])) });
    } catch (error) {
      fail(id, error);
    }
  };
  port.on('message', (request: WorkerRequest) => {
    if (isCopying) waiting.push(request);
    else carryOut(request);
  });
  answer({ id: 0, result: database.rebuilt });
}

function describe(error: SpillwayError): WorkerError {
  return {
    code: error.code,
    message: error.message,
    cause: error.cause === undefined ? null : messageOf(error.cause),
  };
}

/** Has a copy of the catalog checked by a thread of its own, which is this file again. */
async function checkElsewhere(path: string): Promise<boolean> {
  const start: CheckStart = { check: path };
  const checker = new Worker(new URL(import.meta.url), { workerData: start, execArgv: [], name: 'spillway snapshot' });
  try {
    return await new Promise<boolean>((resolve, reject) => {
      checker.once('message', resolve);
      checker.once('error', reject);
      checker.once('exit', () => reject(new Error('the thread that checks a snapshot has ended')));
    });
  } finally {
    await checker.terminate();
  }
}

if (parentPort !== null) {
  const start = workerData as WorkerStart | CheckStart;
  if ('check' in start) parentPort.postMessage(isSound(start.check));
  else serve(parentPort, start);
}
