/** One query at every width, a row each. */

import { badge, colour } from "./badge.js";
import { kinship, tinyCard } from "./card.js";
import { bar } from "./cost.js";
import { el } from "./dom.js";
import { gflop, ms } from "./format.js";

export const TOP = 6;

/** Rows that fill one after the other: `row(width, answer)` puts an answer in its place. */
export class Compare {
  constructor(facts, query) {
    Object.assign(this, { facts, query });
    this.rows = new Map(facts.widths.map((width) => [width, this.#row(width, null)]));
    this.element = el("div", { class: "compare" }, ...this.rows.values());
  }

  row(width, answer) {
    const filled = this.#row(width, answer);
    this.rows.get(width).replaceWith(filled);
    this.rows.set(width, filled);
  }

  /** The number of hits of the query's identity, as text; null where that is not known. */
  static found(answer, query) {
    const kinds = answer.hits.map((hit) => kinship(query, hit)).filter(Boolean);
    return kinds.length ? `${kinds.filter((kind) => kind === "same").length} of ${kinds.length}` : null;
  }

  #row(width, answer) {
    const hits = answer
      ? answer.hits.map((hit, place) => tinyCard(this.query, hit, place + 1))
      : Array.from({ length: TOP }, () => el("li", { class: "card tiny ghost" }, el("div", { class: "frame" })));
    return el(
      "section",
      { class: `panel width-row ${colour(width)}`, data: { width }, "aria-label": `Width ${width}` },
      this.#head(width, answer),
      el("ol", { class: "hits small" }, ...hits),
    );
  }

  /** The time is a median that the service keeps of many batches; that of the one answer would be chance. */
  #head(width, answer) {
    const mine = this.facts.width(width);
    const most = (name) => Math.max(...this.facts.answer.widths.map((one) => one[name]));
    const found = answer && Compare.found(answer, this.query);
    return el(
      "div",
      { class: "width-head" },
      el("h3", {}, badge(width)),
      el("p", { class: "row" }, bar(mine.gflops / most("gflops")), el("span", { class: "value" }, gflop(mine.gflops))),
      el("p", { class: "row", title: "median time of the network, for one image" }, bar(mine.median_ms / most("median_ms")), el("span", { class: "value" }, ms(mine.median_ms))),
      el("p", { class: "found" }, found && el("b", {}, found), found ? " same identity" : "\u00a0"),
    );
  }
}
