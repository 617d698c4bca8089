/** Puts the parts together. `data-interactive` on the root element says that every control works. */

import { Problem, getSamples } from "./api.js";
import { useWidths } from "./badge.js";
import { Choice, OVERHEAD_MS, middling } from "./choice.js";
import { showComposition } from "./composition.js";
import { byId, radios } from "./dom.js";
import { Facts } from "./facts.js";
import { Heatmap } from "./heatmap.js";
import { QueryImage, takeFiles } from "./query_image.js";
import { showSamples } from "./samples.js";
import { Search } from "./search.js";
import { State } from "./state.js";
import { showProblem, untilReady } from "./status.js";

const FILLING_MS = 2000;

async function start() {
  const ready = untilReady();
  const facts = new Facts();
  const [samples] = await Promise.all([getSamples(), untilKnown(facts, ready)]);
  useWidths(facts.widths);
  const state = new State(defaults(facts));
  const queryImage = new QueryImage(state, samples);
  const heatmap = new Heatmap(facts);
  const choice = new Choice(state, facts);
  let current = state.values.width;
  const marked = () => heatmap.show(state.values.metric, current);
  const search = new Search(state, facts, queryImage, async (answer) => {
    current = answer?.query.width ?? null;
    if (answer) choice.answered(answer.timing_ms);
    await facts.refresh().catch(onlyProblems); // the facts shown before are still good
  });
  facts.observe(() => showComposition(facts));
  facts.observe(marked);
  state.observe((_, changed) => changed.includes("metric") && marked());
  showComposition(facts);
  marked();
  showSamples(samples, state);
  bindSwitches(state);
  takeFiles((file) => queryImage.own(file));
  document.documentElement.dataset.interactive = "yes";
  performance.mark("interactive");
  await ready;
  queryImage.start();
  if (!queryImage.current && !samples.length && !state.values.item) search.now();
  await whileFilling(facts, search);
}

function defaults(facts) {
  const { widths } = facts.answer;
  return {
    mode: "width",
    width: widths[0].width,
    latency_ms: middling(widths.map((one) => one.latency_ms + OVERHEAD_MS)),
    gflops: middling(widths.map((one) => one.gflops)),
    view: "hits",
    metric: "mean_ap",
  };
}

/** /widths answers before the service is ready, or not at all; then the wait is for readiness. */
async function untilKnown(facts, ready) {
  try {
    await facts.refresh();
  } catch (error) {
    onlyProblems(error);
    await ready;
    await facts.refresh();
  }
}

function onlyProblems(error) {
  if (!(error instanceof Problem)) throw error;
}

function bindSwitches(state) {
  const view = radios("view", (value) => state.set({ view: value }));
  const metric = radios("metric", (value) => state.set({ metric: value }));
  const details = byId("details");
  details.addEventListener("change", () => state.set({ details: details.checked || null }));
  const show = (values) => {
    view(values.view);
    metric(values.metric);
    details.checked = Boolean(values.details);
    byId("results").classList.toggle("detailed", details.checked);
  };
  state.observe(show);
  show(state.values);
}

/** A demo gallery fills while visitors look on; search again when there is more to find. */
async function whileFilling(facts, search) {
  let before = null;
  while (!facts.items || facts.items !== before) {
    before = facts.items;
    await new Promise((resolve) => setTimeout(resolve, FILLING_MS));
    await facts.refresh().catch(onlyProblems);
    if (facts.items !== before) search.soon();
  }
}

start().catch((error) => {
  const known = error instanceof Problem ? error : new Problem("page", "This page has failed", String(error.message ?? error));
  showProblem(known, () => location.reload());
  if (!(error instanceof Problem)) throw error;
});
