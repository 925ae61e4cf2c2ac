import { join } from 'node:path';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { Connection, type Row } from '../../src/storage/sqlite/connection.ts';
import { countEpisode } from '../../src/storage/sqlite/episode-count.ts';
import { voidLeases } from '../../src/storage/sqlite/lease-operations.ts';
import { catalogOperations } from '../../src/storage/sqlite/sqlite-database.ts';
import type { Job, StatementPlan } from './job.ts';
import { type CatalogCalls, callEverything } from './operations.ts';

/** Every SQL text that the catalog runs: how SQLite carries it out, and how long the slowest run took. */
export async function statementPlans({ directory, made }: Job): Promise<readonly StatementPlan[]> {
  const database = new DatabaseSync(join(directory, 'catalog.sqlite'));
  database.exec('PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384');
  const connection = new ObservedConnection(database);
  voidLeases(connection);
  const operations = catalogOperations(connection);
  const catalog: CatalogCalls = {
    ...operations,
    countEpisode: (episodeId) => countEpisode(operations.countEpisodePart, episodeId),
  };
  await callEverything(catalog, made, 4, async (_name, call) => call());
  const plans = [...connection.seen].map(([sql, { calls, slowestMs }]) => ({
    sql: sql.replaceAll(/\s+/g, ' '),
    plan: database
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => String(detail)),
    calls,
    slowestMs,
  }));
  connection.close();
  return plans;
}

class ObservedConnection extends Connection {
  readonly seen = new Map<string, { calls: number; slowestMs: number }>();

  override all<R extends Row>(sql: string, ...parameters: SQLInputValue[]): R[] {
    return this.#observe(sql, () => super.all<R>(sql, ...parameters));
  }

  override get<R extends Row>(sql: string, ...parameters: SQLInputValue[]): R | undefined {
    return this.#observe(sql, () => super.get<R>(sql, ...parameters));
  }

  override run(sql: string, ...parameters: SQLInputValue[]): void {
    this.#observe(sql, () => super.run(sql, ...parameters));
  }

  override insert(sql: string, ...parameters: SQLInputValue[]): number {
    return this.#observe(sql, () => super.insert(sql, ...parameters));
  }

  #observe<T>(sql: string, run: () => T): T {
    const start = performance.now();
    const result = run();
    const ms = performance.now() - start;
    const known = this.seen.get(sql);
    this.seen.set(sql, { calls: (known?.calls ?? 0) + 1, slowestMs: Math.max(known?.slowestMs ?? 0, ms) });
    return result;
  }
}
