/** The cross-width matrix: rows are the query's width, columns the gallery's, and last a gallery of all widths. */

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
    const { quality, quality_measured: measured } = this.facts.answer;
    const shown = JSON.stringify([metric, current, quality, measured]);
    if (shown === this.shown) return;
    this.shown = shown;
    const matrix = quality[metric];
    const values = matrix.flat();
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const level = (value) => (high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5);
    const mixed = { means: quality.mixed[metric], spreads: quality.mixed[`${metric}_spread`] };
    this.#table.replaceChildren(
      el("caption", {}, `${NAMES[metric]} in points`),
      el("thead", {}, ...head(quality.widths)),
      el("tbody", {}, ...matrix.map((row, place) => line(quality.widths, place, row, mixed, level, current))),
    );
    byId("matrix-reading").replaceChildren(...reading(quality, matrix, mixed.means, metric, current));
    const mixing = `mixed: ${quality.mixed.draws} draws of every image's width, mean ± standard deviation`;
    byId("matrix-source").textContent =
      `Measured ${measured ? `by this service on ${measured.measured.slice(0, 10)}, ` : "by the bundle, "}on ${quality.dataset} (${quality.protocol}): ` +
      `${plural(quality.queries, "query", "queries")}, ${plural(quality.gallery, "gallery image")}` +
      `${this.facts.isSingle ? "" : `; ${mixing}`}.` +
      `${measured ? "" : " sfsc quality --measure measures it on the images of this gallery."}`;
  }
}

function head(widths) {
  return [
    el(
      "tr",
      {},
      el("td", { class: "corner" }, el("span", {}, "query"), el("span", {}, "gallery")),
      ...widths.map((width) => el("th", { scope: "col" }, badge(width, `gallery at width ${width}`))),
      el("th", { scope: "col", class: "mixed" }, "mixed"),
    ),
  ];
}

function line(widths, place, row, mixed, level, current) {
  const width = widths[place];
  const cells = row.map((value, column) =>
    el("td", { class: column === place ? "cell own" : "cell", css: { "--level": level(value) } }, points(value)),
  );
  const mean = mixed.means[place];
  cells.push(
    el("td", { class: "mixed" },
      el("div", { css: { "--level": level(mean) } }, points(mean), el("small", {}, `± ${points(mixed.spreads[place])}`)),
    ),
  );
  const mark = width === current ? { class: "current", "aria-current": "true" } : {};
  return el("tr", mark, el("th", { scope: "row" }, badge(width, `query at width ${width}`)), ...cells);
}

function reading(quality, matrix, mixed, metric, current) {
  const strong = (value) => el("b", {}, points(value));
  if (quality.widths.length === 1) return ["The network scores ", strong(matrix[0][0]), ` of 100 points of ${NAMES[metric]}.`];
  const place = quality.widths.indexOf(current);
  if (place < 0) return ["Search with one width, and its row is marked here."];
  const last = quality.widths.length - 1;
  const row = matrix[place];
  if (place === last) {
    return ["A query at the full width scores ", strong(row[last]), ` ${NAMES[metric]} against full-width vectors, and `, strong(row[0]), " against those of ", badge(quality.widths[0]), ". Where all widths are mixed: ", strong(mixed[place]), "."];
  }
  return ["A query at ", badge(current), " scores ", strong(row[place]), ` ${NAMES[metric]} in a gallery of its own width, and `, strong(row[last]), " in one that was embedded at full width. Where all widths are mixed: ", strong(mixed[place]), "."];
}
