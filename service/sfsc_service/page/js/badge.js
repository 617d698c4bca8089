/** How a width looks everywhere: one colour of an ordered scale, and a gauge that says the same without colour. */

import { el } from "./dom.js";

const SLOTS = 7;
let known = [];

/** Tell which widths share the scale. */
export const useWidths = (names) => (known = [...names]);

/** The class that gives an element `--width-colour`. */
export function colour(width) {
  const place = known.indexOf(width);
  const ratio = place >= 0 && known.length > 1 ? place / (known.length - 1) : parseFloat(width);
  return `w${Math.round(Math.min(1, Math.max(0, ratio)) * (SLOTS - 1))}`;
}

export const gauge = (width) => el("span", { class: "gauge", "aria-hidden": "true", css: { "--ratio": parseFloat(width) } });

export function badge(width, label = `embedded at width ${width}`) {
  return el("span", { class: `badge ${colour(width)}`, title: label }, gauge(width), el("span", { class: "unseen" }, "width "), width);
}

/** The badge of an item; not shown where all have the one width that the service has. */
export function itemBadge(width) {
  const made = badge(width);
  made.classList.toggle("for-several", known.length === 1 && known[0] === width);
  return made;
}
