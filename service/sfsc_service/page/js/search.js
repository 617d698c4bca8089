/** Runs a search whenever image, limits or view change; the newest one wins. */

import { Problem, searchImage, searchItem } from "./api.js";
import { budget } from "./choice.js";
import { Compare, TOP } from "./compare.js";
import { meters, sentence } from "./cost.js";
import { byId } from "./dom.js";
import { suggestFilter } from "./filter_hint.js";
import { alone, focusItem, focusResults, noQuery, nothing, results, spoken, unmatched, waiting } from "./results.js";
import { showProblem } from "./status.js";

const SETTLE_MS = 80;
const PATIENCE_MS = 150;
const RELEVANT = ["mode", "width", "latency_ms", "gflops", "min_quality", "k", "view", "cursor", "filter"];
const TITLES = { hits: "What it finds", compare: "What each width finds", gallery: "The gallery" };

export class Search {
  #running = null;
  #timer = null;
  #changed = -Infinity;
  #output = byId("output");
  #going = false;

  /**
   * @param gallery the view of the gallery
   * @param onAnswer called with each answer, after it is shown
   */
  constructor(state, facts, queryImage, gallery, onAnswer) {
    Object.assign(this, { state, facts, queryImage, gallery, onAnswer });
    state.observe((_, changed) => changed.some((name) => RELEVANT.includes(name)) && this.soon());
    queryImage.observe((current, problem) => (problem ? this.#fail(problem) : this.soon()));
    this.#output.replaceChildren(waiting(state.values.k));
  }

  /** Search for more like an item. */
  like(id) {
    this.#going = true;
    this.state.go({ item: id, sample: null, own: null, view: "hits" }, id);
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
    if (this.queryImage.isLoading && this.state.values.view !== "gallery") return; // it tells when it is there
    const running = (this.#running = new AbortController());
    const busy = setTimeout(() => this.#output.setAttribute("aria-busy", "true"), PATIENCE_MS);
    try {
      await this.#run(running.signal);
      showProblem(null);
      this.#focus();
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
    const { view } = this.state.values;
    byId("results").dataset.view = view;
    byId("results-title").textContent = TITLES[view];
    if (!this.facts.items) await this.facts.refresh();
    if (!this.facts.items) return this.#show(nothing(this.facts.isSingle));
    if (view === "gallery") return this.#show(...(await this.gallery.page(signal)));
    if (!this.queryImage.current) return this.#show(noQuery());
    return view === "compare" ? this.#compare(signal) : this.#hits(signal);
  }

  #show(...elements) {
    byId("answer").replaceChildren();
    byId("cost").replaceChildren();
    byId("cost").hidden = true;
    this.#output.replaceChildren(...elements);
  }

  async #hits(signal) {
    const query = this.queryImage.current;
    const answer = await this.#ask(query, budget(this.state.values), this.state.values.k, signal);
    if (!answer.hits.length) return this.#show(this.state.values.filter ? unmatched() : alone());
    byId("answer").replaceChildren(sentence(answer, this.facts, this.state.values));
    byId("cost").replaceChildren(...meters(answer, this.facts));
    byId("cost").hidden = false;
    this.#output.replaceChildren(results(answer, query, (id) => this.like(id)));
    suggestFilter(answer.hits);
    byId("announcer").textContent = spoken(answer, query);
    return this.onAnswer(answer);
  }

  async #compare(signal) {
    const query = this.queryImage.current;
    if (!query.blob) throw new Problem("unknown", "This item has no image", "Only its vector was stored, so there is nothing to embed at other widths.");
    const compare = new Compare(this.facts, query);
    this.#show(compare.element);
    for (const width of this.facts.widths) {
      compare.row(width, await this.#ask(query, { width }, TOP, signal));
    }
    byId("announcer").textContent = `The hits of ${this.facts.widths.length} widths are shown.`;
    return this.onAnswer(null);
  }

  /** The hits beside the query itself, where that is an image of the gallery. */
  async #ask(query, limits, k, signal) {
    const most = Math.min(query.item === null ? k : k + 1, this.facts.answer.limits.max_k);
    const { filter } = this.state.values;
    const answer = await (query.blob ? searchImage(query.blob, limits, most, filter, signal) : searchItem(query.item, most, filter, signal));
    return { ...answer, hits: answer.hits.filter((hit) => hit.id !== query.item).slice(0, k) };
  }

  /** After a step forward the focus is at the results; after a step back, on what had led away, unless it is elsewhere. */
  #focus() {
    const left = this.state.takeLeft();
    const lost = document.activeElement === document.body || document.activeElement === byId("results");
    if (this.#going) focusResults();
    else if (left !== null && lost) focusItem(left);
    this.#going = false;
  }

  #fail(problem) {
    this.#running?.abort();
    showProblem(problem, () => this.now());
    this.#show();
    byId("announcer").textContent = "";
  }
}
