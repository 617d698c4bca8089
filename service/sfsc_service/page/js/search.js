/** Runs a search whenever image, limits or view change; the newest one wins. */

import { Problem, search } from "./api.js";
import { budget } from "./choice.js";
import { Compare, TOP } from "./compare.js";
import { cost } from "./cost.js";
import { byId } from "./dom.js";
import { HITS, noQuery, nothing, results, spoken, waiting } from "./results.js";
import { showProblem } from "./status.js";

const SETTLE_MS = 80;
const PATIENCE_MS = 150;
const RELEVANT = ["mode", "width", "latency_ms", "gflops", "view"];

export class Search {
  #running = null;
  #timer = null;
  #changed = -Infinity;
  #output = byId("output");
  #cost = byId("cost");

  /** @param onAnswer called with each answer, after it is shown */
  constructor(state, facts, queryImage, onAnswer) {
    Object.assign(this, { state, facts, queryImage, onAnswer });
    state.observe((_, changed) => changed.some((name) => RELEVANT.includes(name)) && this.soon());
    queryImage.observe((current, problem) => (problem ? this.#fail(problem) : this.soon()));
    this.#output.replaceChildren(waiting());
  }

  /** A single choice is searched for at once; of a run of them, as held arrow keys make, only the last. */
  soon() {
    const running = performance.now() - this.#changed < SETTLE_MS;
    this.#changed = performance.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.now(), running ? SETTLE_MS : 0);
  }

  async now() {
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    const busy = setTimeout(() => this.#output.setAttribute("aria-busy", "true"), PATIENCE_MS);
    try {
      await this.#run(running.signal);
      showProblem(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      this.#fail(error);
    } finally {
      clearTimeout(busy);
      if (this.#running === running) this.#output.removeAttribute("aria-busy");
    }
  }

  async #run(signal) {
    const comparing = this.state.values.view === "compare";
    if (!this.facts.items) await this.facts.refresh();
    this.#cost.hidden = comparing || !this.queryImage.current || !this.facts.items;
    byId("details-label").hidden = comparing;
    if (!this.facts.items) return this.#output.replaceChildren(nothing());
    if (!this.queryImage.current) return this.#output.replaceChildren(noQuery());
    return comparing ? this.#compare(signal) : this.#hits(signal);
  }

  async #hits(signal) {
    const query = this.queryImage.current;
    const answer = await search(query.blob, budget(this.state.values), HITS, signal);
    this.#cost.replaceChildren(...cost(answer, this.facts, this.state.values));
    this.#output.replaceChildren(results(answer, query, (id) => this.state.set({ item: id, sample: null })));
    byId("announcer").textContent = spoken(answer, query);
    this.onAnswer(answer);
  }

  /** One after the other, so that no width's time is spoilt by another's. */
  async #compare(signal) {
    const query = this.queryImage.current;
    const compare = new Compare(this.facts, query);
    this.#output.replaceChildren(compare.element);
    for (const width of this.facts.widths) {
      compare.row(width, await search(query.blob, { width }, TOP, signal));
    }
    byId("announcer").textContent = `The hits of ${this.facts.widths.length} widths are shown.`;
    this.onAnswer(null);
  }

  #fail(problem) {
    this.#running?.abort();
    showProblem(problem, () => this.now());
    this.#cost.hidden = true;
    this.#output.replaceChildren();
    byId("announcer").textContent = "";
  }
}
