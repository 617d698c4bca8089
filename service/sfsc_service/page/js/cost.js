/** What a query cost, against what the full width costs. */

import { badge, colour } from "./badge.js";
import { el } from "./dom.js";
import { gflop, ms, times } from "./format.js";

const STAGES = [
  ["preprocess", "decode"],
  ["queue", "wait"],
  ["compute", "network"],
  ["search", "search"],
];

/** Why the query's network was this one, as the end of a sentence. */
export function reason({ reason: why, budget_met: met }, state, slo) {
  if (!met) return "though no width keeps that budget";
  if (why === "load") return "narrowed, because the service is busy";
  if (why === "requested") return "as asked";
  if (state.mode === "auto") return `chosen to answer within ${ms(slo)}`;
  return "the widest within the budget";
}

export function cost(answer, facts, state) {
  const { query, timing_ms: timing } = answer;
  const [mine, full] = [facts.width(query.width), facts.full];
  const isFull = query.width === full.width;
  return [
    el(
      "p",
      { class: `sentence ${query.budget_met ? "" : "missed"}` },
      "Embedded at ",
      badge(query.width),
      ` ${reason(query, state, facts.answer.slo_ms)}`,
      isFull ? ": the full network. " : `: ${times(full.gflops / mine.gflops)} less work than the full network. `,
      el("span", { class: "across" }, across(answer)),
    ),
    el(
      "div",
      { class: "meters" },
      meter("Work", gflop, mine.gflops, full.gflops, query.width, full.width),
      meter("Network", ms, timing.compute, full.latency_ms, query.width, full.width),
      stages(timing),
    ),
  ];
}

/** How many hits only a shared space could find. */
function across({ query, hits }) {
  const others = hits.filter((hit) => hit.width !== query.width).length;
  return `${others} of these ${hits.length} hits were embedded at another width.`;
}

/** Two bars, the query's over the full width's; `of` is the larger of the two. */
function meter(name, format, mine, full, width, fullWidth) {
  const of = Math.max(mine, full);
  return el(
    "div",
    { class: "meter" },
    el("h3", {}, name),
    row(width, format(mine), mine / of),
    width === fullWidth ? row(fullWidth, "is the full width", 0, "none") : row(fullWidth, format(full), full / of, "faded"),
  );
}

function row(width, text, share, kind = "") {
  return el("p", { class: `row ${colour(width)} ${kind}` }, el("span", { class: "who" }, width), bar(share), el("span", { class: "value" }, text));
}

export const bar = (share) => el("span", { class: "bar", "aria-hidden": "true", css: { "--share": share } });

function stages(timing) {
  const known = STAGES.filter(([name]) => timing[name] !== undefined);
  const parts = known.map(([name]) => el("i", { class: name, css: { "--share": timing[name] / timing.total } }));
  return el(
    "div",
    { class: "meter" },
    el("h3", {}, "Whole answer ", el("b", {}, ms(timing.total))),
    el("p", { class: "timeline", "aria-hidden": "true" }, ...parts),
    el("p", { class: "key" }, ...known.map(([name, word]) => el("span", { class: name }, `${word} ${ms(timing[name])}`))),
  );
}
