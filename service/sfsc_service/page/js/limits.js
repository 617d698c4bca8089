/** What the widths cost and reach, as ends and marks of the sliders that limit them. */

const OVERHEAD_MS = 2;
const REMEMBERED = 9;

/** Rounded up to two digits. */
export function roundUp(value) {
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Number((Math.ceil(value / unit - 1e-9) * unit).toPrecision(2));
}

/** What an answer takes beside its network: three of four of the latest ones took less; a guess until there is one. */
export class Overhead {
  #seen = [];

  answered(timing) {
    if (timing.compute === undefined) return;
    this.#seen = [...this.#seen, timing.total - timing.compute].slice(-REMEMBERED);
  }

  get ms() {
    return this.#seen.length ? this.#seen.toSorted((a, b) => a - b)[Math.floor(0.75 * this.#seen.length)] : OVERHEAD_MS;
  }
}

/** A width is marked where it, or a wider one that turned out to be as quick, comes into reach; so marks ascend. */
const fromHereOn = (values) => values.map((_, i) => Math.min(...values.slice(i)));

/** A width is marked at what it, or a narrower one that is as good, reaches; so marks ascend. */
export const upToHere = (values) => values.map((_, i) => Math.max(...values.slice(0, i + 1)));

const named = (widths, values) => new Map(widths.map(({ width }, i) => [width, values[i]]));

/** Of answers, in ms: from what the narrowest width can keep. */
export function latencies(widths, overhead) {
  const marks = fromHereOn(widths.map((one) => one.median_ms + overhead));
  return { low: roundUp(marks[0]), high: roundUp(2 * marks.at(-1)), marks: named(widths, marks) };
}

/** Of networks, in GFLOP. */
export function works(widths) {
  const marks = widths.map((one) => one.gflops);
  return { low: marks[0] / 1.6, high: marks.at(-1) * 1.6, marks: named(widths, marks) };
}

/** Of queries, in points of mAP, as predicted for this gallery. */
export function qualities(widths) {
  const marks = upToHere(widths.map((one) => one.predicted_mean_ap));
  return { low: Math.max(0.1, Math.floor(marks[0]) - 1), high: Math.min(100, Math.ceil(marks.at(-1)) + 1), marks: named(widths, marks) };
}

/** A limit between the ends of the widths' own: it makes a difference in both directions. */
export function middling(marks) {
  const values = [...marks.values()];
  return Number(Math.sqrt(values[0] * values.at(-1)).toPrecision(2));
}
