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
  if (!met) return state.mode === "gflops" ? "because no width needs as little as that" : "but later than asked";
  if (why === "load") return "narrowed, because the service is busy";
  if (why === "requested") return "as asked";
  if (state.mode === "auto") return `chosen to answer within ${ms(slo)}`;
  return "the widest within the budget";
}

export function cost(answer, facts, state) {
  const { query, timing_ms: timing } = answer;
  const mine = facts.width(query.width);
  const other = query.width === facts.full.width ? facts.answer.widths[0] : facts.full;
  return [
    el(
      "p",
      { class: `sentence ${query.budget_met ? "" : "missed"}` },
      "Embedded at ",
      badge(query.width),
      ` ${reason(query, state, facts.answer.slo_ms)}`,
      saving(mine, other),
      el("span", { class: "across" }, across(answer)),
    ),
    el(
      "div",
      { class: "meters" },
      meter("Work", gflop, [mine.width, mine.gflops], [other.width, other.gflops]),
      meter("Network", ms, [mine.width, timing.compute], [other.width, other.latency_ms]),
      stages(timing),
    ),
  ];
}

/** How many hits only a shared space could find. */
function across({ query, hits }) {
  const others = hits.filter((hit) => hit.width !== query.width).length;
  return `${others} of these ${hits.length} hits were embedded at another width.`;
}

function saving(mine, other) {
  if (mine.gflops <= other.gflops) return `: ${times(other.gflops / mine.gflops)} less work than the full network. `;
  return `: the full network, ${times(mine.gflops / other.gflops)} the work of the narrowest. `;
}

/** Two bars, the query's over another width's, each as long as its share of the larger one. */
function meter(name, format, ...pairs) {
  const most = Math.max(...pairs.map(([, cost]) => cost));
  const rows = pairs.map(([width, cost], place) => row(width, format(cost), cost / most, place ? "faded" : ""));
  return el("div", { class: "meter" }, el("h3", {}, name), ...rows);
}

function row(width, text, share, kind) {
  return el(
    "p",
    { class: `row ${colour(width)} ${kind}` },
    el("span", { class: "who" }, width),
    bar(share),
    el("span", { class: "value" }, text),
  );
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
