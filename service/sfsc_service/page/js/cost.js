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
function reason({ reason: why, budget_met: met }, state, slo) {
  if (!met && state.mode === "gflops") return "because no width needs as little as that";
  if (!met && state.mode === "quality") return "because no width reaches that";
  if (!met) return "but later than asked";
  if (why === "load") return "narrowed, because the service is busy";
  if (why === "requested") return "as asked";
  if (state.mode === "auto") return `chosen to answer within ${ms(slo)}`;
  if (state.mode === "quality") return "the cheapest that reaches it";
  return "the widest within the budget";
}

/** What was done, in one or two sentences. */
export function sentence(answer, facts, state) {
  const { query, timing_ms: timing } = answer;
  if (timing.compute === undefined) return el("p", { class: "sentence" }, "Searched with the stored vector, of width ", badge(query.width), ". ", across(answer, facts));
  const mine = facts.width(query.width);
  if (facts.isSingle) return el("p", { class: "sentence" }, "Embedded at ", badge(query.width), ". ", across(answer, facts));
  return el(
    "p",
    { class: `sentence ${query.budget_met ? "" : "missed"}` },
    "Embedded at ",
    badge(query.width),
    ` ${reason(query, state, facts.answer.slo_ms)}`,
    saving(mine, otherThan(mine, facts)),
    across(answer, facts),
  );
}

/** Work, time of the network and parts of the answer; nothing where no network ran. */
export function meters(answer, facts) {
  const { query, timing_ms: timing } = answer;
  if (timing.compute === undefined) return [];
  const mine = facts.width(query.width);
  const shown = facts.isSingle ? [mine] : [mine, otherThan(mine, facts)];
  return [
    meter("Work", gflop, ...shown.map((one) => [one.width, one.gflops])),
    meter("Network time, median", ms, ...shown.map((one) => [one.width, one.median_ms])),
    stages(timing),
  ];
}

/** The width that one is held against: the full one, and that against the narrowest. */
const otherThan = (mine, facts) => (mine.width === facts.full.width ? facts.answer.widths[0] : facts.full);

/** How many hits only a shared space could find; a single network may find vectors that an older bundle left. */
function across({ query, hits }, facts) {
  const others = hits.filter((hit) => hit.width !== query.width).length;
  if (facts.isSingle && !others) return null;
  return el("span", { class: "across" }, `${whose(others, hits.length)} width.`);
}

function whose(others, all) {
  if (all === 1) return `This hit was embedded at ${others ? "another" : "the same"}`;
  return `${others} of these ${all} hits ${others === 1 ? "was" : "were"} embedded at another`;
}

function saving(mine, other) {
  if (mine.width === other.width) return ". ";
  if (mine.gflops <= other.gflops) return `: ${times(other.gflops / mine.gflops)} less work than the full network. `;
  return `: the full network, ${times(mine.gflops / other.gflops)} the work of the narrowest. `;
}

/** Bars, the query's over another width's, each as long as its share of the larger one. */
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
    el("h3", {}, "This answer ", el("b", {}, ms(timing.total))),
    el("p", { class: "timeline", "aria-hidden": "true" }, ...parts),
    el("p", { class: "key" }, ...known.map(([name, word]) => el("span", { class: name }, `${word} ${ms(timing[name])}`))),
  );
}
