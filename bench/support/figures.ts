/** The middle one; of two the higher. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Median and range. */
export function describe(values: readonly number[], digits: number): string {
  if (values.length === 1) return (values[0] ?? Number.NaN).toFixed(digits);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
}

const summary: string[] = [];

/** A figure that stands against a peer or a limit of the same run. */
export function ratio(name: string, value: number, target: number, digits = 2): void {
  print(`ratio ${name} ${value.toFixed(digits)} target ${target}`);
}

export function figure(name: string, value: number, unit: string, digits = 0): void {
  print(`figure ${name} ${value.toFixed(digits)} unit ${unit}`);
}

/** All figures once more, one below another. */
export function printSummary(): void {
  console.log(`\nsummary\n${summary.join('\n')}`);
}

function print(line: string): void {
  console.log(line);
  summary.push(line);
}
