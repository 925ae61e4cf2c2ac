import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type DeliveryState, EVIDENCE, type Evidence } from '../../domain/delivery.ts';

/** What identifies the version that a decision is about, under whatever arrival id; what is discarded carries it. */
export type DecidedVersion = {
  readonly sopInstanceUid?: string;
  readonly transferSyntaxUid?: string;
  readonly digest?: string;
};

/** What must outlive the catalog: no rebuild may bring back what was put aside, given up, or made room. */
export type Decision =
  | ({
      readonly kind: 'settle';
      readonly at: number;
      readonly arrivalId: string;
      readonly destinationId: string;
      readonly state: DeliveryState;
      readonly reason: string | null;
      /** Who discarded it. */
      readonly by?: string;
      /** Of what was in quarantine, and is verified. */
      readonly evidence?: Evidence;
    } & DecidedVersion)
  | {
      /** Out of quarantine: it is pending again. */
      readonly kind: 'redrive';
      readonly at: number;
      readonly arrivalId: string;
      readonly destinationId: string;
      readonly by: string;
    }
  | {
      /** It was verified, and is not there: it is pending again. */
      readonly kind: 'return';
      readonly at: number;
      readonly arrivalId: string;
      readonly destinationId: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'retire';
      readonly at: number;
      readonly destinationId: string;
      readonly reason: string;
      readonly by: string;
    }
  | {
      readonly kind: 'evict';
      readonly at: number;
      readonly studyInstanceUid: string;
      readonly arrivalIds: readonly string[];
      /** What every delivery of them had reached at least. */
      readonly evidence: Evidence;
    };

/** A decision with its number: 1, 2, 3, … in a store, and again what a failed commit had. */
export type NumberedDecision = Decision & { readonly number: number };

const NAME = /^(\d{8})\.log$/;
const NEWLINE = 0x0a;
/** The file of what no snapshot makes superfluous; it is read first. */
const KEPT = 0;

/**
 * The decisions, one JSON line each, in files beside the catalog: each line is on the disk before the rows change. Files
 * are numbered; a snapshot of the catalog begins a new one, and those before the oldest snapshot are not needed.
 */
export class DecisionLog {
  readonly #directory: string;
  #file: number | null = null;
  #current: number;

  /**
   * Nothing is written before the first decision.
   *
   * @param latestSnapshot - Its number, or 0: what is decided now is not in it, and no lower number may be given.
   */
  constructor(directory: string, latestSnapshot: number) {
    this.#directory = directory;
    this.#current = Math.max(1, latestSnapshot, ...this.#files());
  }

  /** Appends lines and syncs them. After a failure the file is left alone, and the next goes into a new one. */
  append(decisions: readonly NumberedDecision[]): void {
    const lines = decisions.map((decision) => `${JSON.stringify(decision)}\n`).join('');
    try {
      this.#file ??= this.#open();
      const bytes = Buffer.from(lines);
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
      fsyncSync(this.#file);
    } catch (error) {
      this.close();
      this.#current += 1;
      throw error;
    }
  }

  /** Begins a new file; returns its number. */
  rotate(): number {
    this.close();
    this.#current += 1;
    return this.#current;
  }

  /** Every decision that can be read, oldest first. A line that was torn was never acted on. */
  *read(): Generator<NumberedDecision> {
    for (const number of this.#files()) yield* this.#readFile(number);
  }

  *#readFile(number: number): Generator<NumberedDecision> {
    for (const line of readFileSync(this.#path(number), 'utf8').split('\n')) {
      const decision = parse(line);
      if (decision !== null) yield decision;
    }
  }

  /**
   * Removes the files before this one. What a person gave up stays in a file of its own for good: should no snapshot be
   * sound one day, it must not come back. (What a destination refused, it refuses again.)
   */
  prune(before: number): void {
    const old = this.#files().filter((number) => number < before);
    const isForGood = (decision: NumberedDecision) =>
      decision.kind === 'retire' || (decision.kind === 'settle' && decision.state === 'discarded');
    const kept = old.flatMap((number) => [...this.#readFile(number)].filter(isForGood));
    if (old.some((number) => number !== KEPT) && kept.length > 0) this.#replace(KEPT, kept);
    for (const number of old) if (number !== KEPT) unlinkSync(this.#path(number));
  }

  /** Whole or not at all. */
  #replace(number: number, decisions: readonly NumberedDecision[]): void {
    const lines = new Set(decisions.map((decision) => JSON.stringify(decision)));
    const temporary = `${this.#path(number)}.new`;
    const file = openSync(temporary, 'w', 0o600);
    try {
      writeFileSync(file, [...lines].map((line) => `${line}\n`).join(''));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, this.#path(number));
    syncDirectory(this.#directory);
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #open(): number {
    const isNew = mkdirSync(this.#directory, { recursive: true, mode: 0o700 }) !== undefined;
    if (isNew) syncDirectory(dirname(this.#directory));
    const file = openSync(this.#path(this.#current), 'a+', 0o600);
    const { size } = fstatSync(file);
    if (size === 0) syncDirectory(this.#directory);
    else if (lastByte(file, size) !== NEWLINE) writeSync(file, '\n');
    return file;
  }

  #files(): number[] {
    try {
      return readdirSync(this.#directory)
        .flatMap((name) => NAME.exec(name)?.[1] ?? [])
        .map(Number)
        .sort((a, b) => a - b);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  }

  #path(number: number): string {
    return join(this.#directory, `${String(number).padStart(8, '0')}.log`);
  }
}

/** Where names cannot be synced (Windows), they are as durable as the file system makes them. */
export function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return;
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function lastByte(file: number, size: number): number | undefined {
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, size - 1);
  return byte[0];
}

function parse(line: string): NumberedDecision | null {
  if (line === '') return null;
  try {
    const value: unknown = JSON.parse(line);
    return isDecision(value) ? value : null;
  } catch {
    return null;
  }
}

/** A line that is damaged must not keep the store from opening, nor do what nobody has decided. */
function isDecision(value: unknown): value is NumberedDecision {
  if (typeof value !== 'object' || value === null) return false;
  const line = value as Readonly<Record<string, unknown>>;
  const areTexts = (...names: readonly string[]) => names.every((name) => typeof line[name] === 'string');
  const areOptional = (...names: readonly string[]) =>
    names.every((name) => line[name] === undefined || typeof line[name] === 'string');
  if (!Number.isSafeInteger(line.number) || typeof line.at !== 'number') return false;
  switch (line.kind) {
    case 'settle':
      return (
        areTexts('arrivalId', 'destinationId') &&
        (line.state === 'quarantined' || line.state === 'discarded' || line.state === 'verified') &&
        (line.reason === null || areTexts('reason')) &&
        (line.evidence === undefined || isEvidence(line.evidence)) &&
        areOptional('by', 'sopInstanceUid', 'transferSyntaxUid', 'digest')
      );
    case 'redrive':
      return areTexts('arrivalId', 'destinationId', 'by');
    case 'return':
      return areTexts('arrivalId', 'destinationId', 'reason');
    case 'retire':
      return areTexts('destinationId', 'reason', 'by');
    case 'evict':
      return (
        areTexts('studyInstanceUid') &&
        Array.isArray(line.arrivalIds) &&
        line.arrivalIds.every((id) => typeof id === 'string') &&
        isEvidence(line.evidence)
      );
    default:
      return false;
  }
}

function isEvidence(value: unknown): value is Evidence {
  return EVIDENCE.some((evidence) => evidence === value);
}
