import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';
import type { Decision, DecisionLog } from './decision-log.ts';

/** A row as SQLite gives it. */
export type Row = Record<string, SQLOutputValue>;

const SET_SEQUENCE = 'UPDATE counters SET sequence = sequence + ?';

/** One database with its prepared statements and its transactions. */
export class Connection {
  readonly #database: DatabaseSync;
  // Bounded by the number of SQL texts in this folder: none of them is put together from values.
  readonly #statements = new Map<string, StatementSync>();
  readonly #decisions: DecisionLog | null;
  readonly #sums = new Map<
    string,
    { readonly sql: string; readonly amounts: number[]; readonly key: readonly SQLInputValue[] }
  >();
  readonly #memo = new Map<string, unknown>();
  /** As far as it was drawn; null where that is to be read. Nobody else writes to the database. */
  #sequence: number | null = null;

  /** @param decisions - Where decisions are written before their rows change; none in a database that is never rebuilt. */
  constructor(database: DatabaseSync, decisions: DecisionLog | null = null) {
    this.#database = database;
    this.#decisions = decisions;
  }

  all<R extends Row>(sql: string, ...parameters: SQLInputValue[]): R[] {
    return this.#prepare(sql).all(...parameters) as R[];
  }

  get<R extends Row>(sql: string, ...parameters: SQLInputValue[]): R | undefined {
    return this.#prepare(sql).get(...parameters) as R | undefined;
  }

  run(sql: string, ...parameters: SQLInputValue[]): void {
    this.#prepare(sql).run(...parameters);
  }

  /** Inserts one row and returns its INTEGER PRIMARY KEY. */
  insert(sql: string, ...parameters: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...parameters).lastInsertRowid);
  }

  execute(sql: string): void {
    this.#database.exec(sql);
  }

  /** Runs `action` as one transaction. It is durable when this returns, and undone when this throws. */
  write<T>(action: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = action();
      this.flush();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      this.#sums.clear();
      this.#sequence = null;
      try {
        this.#database.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back by itself, as it does when the disk is full; the first error is the one that tells.
      }
      throw error;
    } finally {
      this.#memo.clear();
    }
  }

  /** Reads once in a transaction what that transaction does not change. */
  once<T>(name: string, read: () => T): T {
    if (!this.#memo.has(name)) this.#memo.set(name, read());
    return this.#memo.get(name) as T;
  }

  /** Draws the next number of the sequence that acceptance, settlement and leases share. Within a transaction. */
  advance(): number {
    this.#sequence ??= this.get<{ sequence: number }>('SELECT sequence FROM counters')?.sequence ?? null;
    if (this.#sequence === null) throw new Error('the table "counters" is empty');
    this.#sequence += 1;
    this.accumulate(SET_SEQUENCE, [1], []);
    return this.#sequence;
  }

  /**
   * Adds to counters at the end of the transaction, once for all that the same statement adds under the same key: what is
   * counted by each instance of a batch is seldom another row's. Who reads these counters in the transaction calls `flush` first.
   *
   * @param sql - Its first parameters are what is added, the others the key.
   */
  accumulate(sql: string, amounts: readonly number[], key: readonly SQLInputValue[]): void {
    const name = JSON.stringify([sql, ...key]);
    const sum = this.#sums.get(name);
    if (sum === undefined) this.#sums.set(name, { sql, amounts: [...amounts], key });
    else for (const [index, amount] of amounts.entries()) sum.amounts[index] = (sum.amounts[index] ?? 0) + amount;
  }

  /** Adds what was accumulated now: whoever reads or sets such a counter in a transaction does so first. */
  flush(): void {
    for (const { sql, amounts, key } of this.#sums.values()) this.run(sql, ...amounts, ...key);
    this.#sums.clear();
  }

  /** Makes decisions durable beside the catalog. The last thing in a transaction: its commit follows. */
  decide(decisions: readonly Decision[]): void {
    if (this.#decisions === null || decisions.length === 0) return;
    const row = this.get<{ decided: number }>(
      'UPDATE counters SET decided = decided + ? RETURNING decided',
      decisions.length,
    );
    const first = (row?.decided ?? 0) - decisions.length + 1;
    this.#decisions.append(decisions.map((decision, index) => ({ number: first + index, ...decision })));
  }

  close(): void {
    this.#decisions?.close();
    this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}
