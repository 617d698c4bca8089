/** The switches of the results and of the matrix. */

import { byId, el, radios } from "./dom.js";

const NUMBERS_OF_HITS = [5, 10, 20, 50, 100];

/** @param limits the service's own */
export function bindSwitches(state, limits) {
  const view = radios("view", (value) => state.go({ view: value, cursor: null }));
  const metric = radios("metric", (value) => state.set({ metric: value }));
  const details = byId("details");
  details.addEventListener("change", () => state.set({ details: details.checked || null }));
  const hits = byId("k");
  hits.addEventListener("change", () => state.set({ k: Number(hits.value) }));
  const filter = byId("filter");
  filter.addEventListener("change", () => state.go({ filter: filter.value.trim() || null, cursor: null }));
  const show = (values) => {
    filter.value = values.filter ?? "";
    view(values.view);
    metric(values.metric);
    details.checked = Boolean(values.details);
    byId("results").classList.toggle("detailed", details.checked);
    const offered = new Set([...NUMBERS_OF_HITS.filter((number) => number <= limits.max_k), values.k]);
    hits.replaceChildren(...[...offered].sort((a, b) => a - b).map((number) => el("option", { value: number }, `${number} hits`)));
    hits.value = values.k;
  };
  state.observe(show);
  show(state.values);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address holds the view
    byId("results").focus();
  });
}
