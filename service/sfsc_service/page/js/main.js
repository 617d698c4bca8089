/** Puts the parts together. `data-interactive` on the root element says that every control works. */

import { Adding } from "./adding.js";
import { Problem } from "./api.js";
import { useWidths } from "./badge.js";
import { Choice } from "./choice.js";
import { showComposition } from "./composition.js";
import { bindConfirm } from "./confirm.js";
import { byId } from "./dom.js";
import { Facts } from "./facts.js";
import { takeFiles } from "./files.js";
import { GalleryView } from "./gallery_view.js";
import { showHeal } from "./heal.js";
import { Heatmap } from "./heatmap.js";
import { Overhead, latencies, middling, qualities, works } from "./limits.js";
import { Load } from "./load.js";
import { QueryImage } from "./query_image.js";
import { bringIntoSight } from "./results.js";
import { Samples } from "./samples.js";
import { Search } from "./search.js";
import { showSeparatelyTrained } from "./separately_trained.js";
import { State } from "./state.js";
import { showProblem, untilReady } from "./status.js";
import { bindSwitches } from "./switches.js";
import { Traffic } from "./traffic.js";

const FILLING_MS = 2000;
const FULL_AFTER = 5;
const HITS = 10;

async function start() {
  const ready = untilReady();
  const facts = new Facts();
  await untilKnown(facts, ready);
  const samples = new Samples();
  await samples.load();
  useWidths(facts.widths);
  const state = new State(defaults(facts));
  if (facts.isSingle) {
    document.documentElement.dataset.single = "";
    document.title = "sfsc: search with an image";
    state.set({ mode: "width", view: state.values.view === "compare" ? "hits" : state.values.view });
  }
  const queryImage = new QueryImage(state, samples);
  const choice = new Choice(state, facts, bringIntoSight);
  const heatmap = new Heatmap(facts);
  let current = state.values.width;
  const marked = () => heatmap.show(state.values.metric, current);
  const gallery = new GalleryView(state, facts, (id) => search.like(id), () => facts.refresh().catch(onlyProblems));
  const search = new Search(state, facts, queryImage, gallery, async (answer) => {
    current = answer?.query.width ?? null;
    if (answer) choice.answered(answer.timing_ms);
    await facts.refresh().catch(onlyProblems); // the facts shown before are still good
  });
  const refresh = () => facts.refresh().catch(onlyProblems);
  facts.observe(() => showComposition(facts));
  facts.observe(() => showHeal(facts, refresh));
  facts.observe(marked);
  state.observe((_, changed) => changed.includes("metric") && marked());
  showComposition(facts);
  showHeal(facts, refresh);
  marked();
  samples.show(state);
  bindSwitches(state, facts.answer.limits);
  bindConfirm();
  const fill = () => whileFilling(facts, samples, state, queryImage, search);
  const adding = new Adding(facts, async () => {
    await facts.refresh().catch(onlyProblems);
    await refill(samples, state, queryImage, search);
  });
  takeFiles({ search: (file) => queryImage.own(file), add: (files) => adding.open(files) });
  document.documentElement.dataset.interactive = "yes";
  performance.mark("interactive");
  await ready;
  queryImage.start();
  if (!samples.list.length && !queryImage.isLoading) search.now();
  new Traffic(facts, facts.answer.demo_load ? [loadOf(new Load())] : []);
  if (!facts.isSingle) showSeparatelyTrained().catch(onlyProblems);
  await fill();
}

const loadOf = (load) => () => load.refresh();

function defaults(facts) {
  const { widths, limits } = facts.answer;
  const { low, high } = qualities(widths);
  return {
    mode: "width",
    width: widths[0].width,
    latency_ms: middling(latencies(widths, new Overhead().ms).marks),
    gflops: middling(works(widths).marks),
    min_quality: Number(((low + high) / 2).toFixed(1)),
    k: Math.min(HITS, limits.max_k),
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

/** A demo gallery fills, in steps, while visitors look on; search again when there is more to find. */
async function whileFilling(facts, samples, state, queryImage, search) {
  for (let unchanged = 0; unchanged < FULL_AFTER; ) {
    const before = facts.items;
    await new Promise((resolve) => setTimeout(resolve, FILLING_MS));
    await facts.refresh().catch(onlyProblems);
    if (facts.items !== before) await refill(samples, state, queryImage, search);
    unchanged = facts.items && facts.items === before ? unchanged + 1 : 0;
  }
}

/** Search a gallery that has changed; one that was small may have more samples now. */
async function refill(samples, state, queryImage, search) {
  if (!samples.isComplete) {
    await samples.load().catch(onlyProblems);
    samples.show(state);
    if (!queryImage.current) queryImage.start();
  }
  search.soon();
}

start().catch((error) => {
  const known = error instanceof Problem ? error : new Problem("page", "This page has failed", String(error.message ?? error));
  showProblem(known, () => location.reload());
  if (!(error instanceof Problem)) throw error;
});
