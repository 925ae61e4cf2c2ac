import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';

/** A row as SQLite gives it. */
export type Row = Record<string, SQLOutputValue>;

/** One database with its prepared statements and its transactions. */
export class Connection {
  readonly #database: DatabaseSync;
  // Bounded by the number of SQL texts in this folder: none of them is put together from values.
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
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
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      try {
        this.#database.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back by itself, as it does when the disk is full; the first error is the one that tells.
      }
      throw error;
    }
  }

  /** Draws the next number of the sequence that acceptance, settlement and leases share. */
  advance(): number {
    const row = this.get<{ value: number }>('UPDATE sequence SET value = value + 1 RETURNING value');
    if (row === undefined) throw new Error('the table "sequence" is empty');
    return row.value;
  }

  close(): void {
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
