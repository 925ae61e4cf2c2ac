import { parentPort, workerData } from 'node:worker_threads';
import { messageOf, type SpillwayError } from '../../errors.ts';
import type { WorkerError, WorkerRequest, WorkerResponse, WorkerStart } from './messages.ts';
import { openSqliteDatabase, type SqliteDatabase, toStoreError } from './sqlite-database.ts';

/** The thread of the SQLite catalog: one call after the other, in the order in which they came. */
function serve(port: NonNullable<typeof parentPort>, { file }: WorkerStart): void {
  const answer = (response: WorkerResponse): void => port.postMessage(response);
  let database: SqliteDatabase;
  try {
    database = openSqliteDatabase(file);
  } catch (error) {
    answer({ id: 0, error: describe(toStoreError(error, file)) });
    return;
  }
  port.on('message', ({ id, method, parameters }: WorkerRequest) => {
    try {
      if (method === 'close') {
        database.close();
        answer({ id, result: undefined });
        return;
      }
      const operation: (...parameters: never[]) => unknown = database.operations[method];
      answer({ id, result: operation(...(parameters as never[])) });
    } catch (error) {
      answer({ id, error: describe(toStoreError(error, file)) });
    }
  });
  answer({ id: 0, result: undefined });
}

function describe(error: SpillwayError): WorkerError {
  return {
    code: error.code,
    message: error.message,
    cause: error.cause === undefined ? null : messageOf(error.cause),
  };
}

if (parentPort !== null) serve(parentPort, workerData as WorkerStart);
