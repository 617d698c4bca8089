/** Numbers as people read them. */

const digits = (value, count) => new Intl.NumberFormat("en", { maximumSignificantDigits: count }).format(value);

export const ms = (value) => `${value < 0.1 ? digits(value, 1) : value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

export const gflop = (value) => `${digits(value, 2)} GFLOP`;

export const count = (value) => new Intl.NumberFormat("en").format(value);

export const percent = (share) => `${Math.round(100 * share)} %`;

export const mAP = (value) => `${value.toFixed(1)} mAP`;

export const perSecond = (value) => `${value < 10 ? digits(value, 2) : count(Math.round(value))}/s`;

export const points = (value) => value.toFixed(1);

export const score = (value) => value.toFixed(3);

export const times = (ratio) => `${ratio < 10 ? ratio.toFixed(1) : Math.round(ratio)}×`;

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function bytes(value) {
  if (value < 1e3) return `${value} B`;
  return value < 1e6 ? `${digits(value / 1e3, 2)} kB` : `${digits(value / 1e6, 2)} MB`;
}

/** A metadata value as one short line. */
export function short(value, most = 60) {
  const text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
