/** The cross-width matrix: rows are the query's width, columns the gallery's. */

import { badge } from "./badge.js";
import { byId, el } from "./dom.js";
import { plural, points } from "./format.js";

const NAMES = { mean_ap: "mAP", rank1: "rank-1" };

export class Heatmap {
  #table = byId("matrix");

  constructor(facts) {
    this.facts = facts;
  }

  /** @param {"mean_ap"|"rank1"} metric @param current the query's width, or null */
  show(metric, current) {
    const { quality } = this.facts.answer;
    const shown = JSON.stringify([metric, current, quality]);
    if (shown === this.shown) return;
    this.shown = shown;
    const matrix = quality[metric];
    const values = matrix.flat();
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const level = (value) => (high > low ? (value - low) / (high - low) : 0.5);
    this.#table.replaceChildren(
      el("caption", {}, `${NAMES[metric]} in points`),
      el("thead", {}, ...head(quality.widths)),
      el("tbody", {}, ...matrix.map((row, place) => line(quality.widths, place, row, level, current))),
    );
    byId("matrix-reading").replaceChildren(...reading(quality, matrix, metric, current));
    byId("matrix-source").textContent =
      `Measured on ${quality.dataset} (${quality.protocol}): ` +
      `${plural(quality.queries, "query", "queries")}, ${plural(quality.gallery, "gallery image")}.`;
  }
}

function head(widths) {
  return [
    el(
      "tr",
      {},
      el("td", { class: "corner" }, el("span", {}, "query"), el("span", {}, "gallery")),
      ...widths.map((width) => el("th", { scope: "col" }, badge(width, `gallery at width ${width}`))),
    ),
  ];
}

function line(widths, place, row, level, current) {
  const width = widths[place];
  const cells = row.map((value, column) =>
    el("td", { class: column === place ? "cell own" : "cell", css: { "--level": level(value) } }, points(value)),
  );
  const mark = width === current ? { class: "current", "aria-current": "true" } : {};
  return el("tr", mark, el("th", { scope: "row" }, badge(width, `query at width ${width}`)), ...cells);
}

function reading(quality, matrix, metric, current) {
  const place = quality.widths.indexOf(current);
  if (place < 0) return ["Search with one width, and its row is marked here."];
  const last = quality.widths.length - 1;
  const row = matrix[place];
  const strong = (value) => el("b", {}, points(value));
  if (place === last) {
    return ["A query at the full width scores ", strong(row[last]), ` ${NAMES[metric]} against full-width vectors, and `, strong(row[0]), " against those of ", badge(quality.widths[0]), "."];
  }
  return ["A query at ", badge(current), " scores ", strong(row[place]), ` ${NAMES[metric]} in a gallery of its own width, and `, strong(row[last]), " in one that was embedded at full width."];
}
