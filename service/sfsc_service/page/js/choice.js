/** How the query's network is chosen: exactly one width, a budget of time or of work, or by the service. */

import { colour, gauge } from "./badge.js";
import { byId, el, radios } from "./dom.js";
import { gflop, ms } from "./format.js";
import { Slider } from "./slider.js";

/** What decoding and searching take beside the network, until an answer tells. */
export const OVERHEAD_MS = 2;

/** The limits of a search, as the service's parameters. */
export function budget({ mode, width, latency_ms, gflops }) {
  if (mode === "width") return { width };
  if (mode === "latency") return { latency_ms };
  if (mode === "gflops") return { gflops };
  return {};
}

/** Middle of the widths' costs: a budget that starts there makes a difference in both directions. */
export function middling(costs) {
  const [low, high] = [costs.at(0), costs.at(-1)];
  return Number(Math.sqrt(low * high).toPrecision(2));
}

export class Choice {
  #overhead = null;

  constructor(state, facts) {
    this.state = state;
    this.facts = facts;
    this.#controls();
    this.#sliders();
    facts.observe(() => this.#costs());
    state.observe((values) => this.#show(values));
    this.#show(state.values);
  }

  /** Learn from an answer what a search takes, at its best, beside its network. */
  answered(timing) {
    this.#overhead = Math.min(this.#overhead ?? Infinity, timing.preprocess + timing.search);
  }

  /** Who chooses a network wants to see what it finds, and not what all of them do. */
  #choose(patch) {
    this.state.set({ ...patch, view: "hits" });
  }

  #controls() {
    byId("widths").replaceChildren(...this.facts.widths.map((width) => tile(this.facts.width(width))));
    byId("slo").textContent = ms(this.facts.answer.slo_ms);
    this.checkMode = radios("mode", (mode) => this.#choose({ mode }));
    this.checkWidth = radios("width", (width) => this.#choose({ width }));
  }

  #sliders() {
    const work = this.facts.answer.widths.map((one) => one.gflops);
    const time = this.facts.answer.widths.map((one) => one.latency_ms);
    this.latency = new Slider(byId("latency"), {
      label: "Answer within",
      low: Math.max(1, time[0] / 2),
      high: 5 * time.at(-1) + 10,
      format: ms,
      onChange: (value) => this.#choose({ latency_ms: value }),
    });
    this.gflops = new Slider(byId("gflops"), {
      label: "At most",
      low: work[0] / 1.6,
      high: work.at(-1) * 1.6,
      format: gflop,
      onChange: (value) => this.#choose({ gflops: value }),
    });
    this.#costs();
  }

  #costs() {
    const { widths } = this.facts.answer;
    this.latency.mark(new Map(widths.map((one) => [one.width, one.latency_ms + (this.#overhead ?? OVERHEAD_MS)])));
    this.gflops.mark(new Map(widths.map((one) => [one.width, one.gflops])));
    for (const one of widths) {
      byId("widths").querySelector(`[data-width="${one.width}"] .time`).textContent = ms(one.latency_ms);
    }
  }

  #show({ mode, width, latency_ms, gflops, view }) {
    byId("choice-title").textContent = view === "compare" ? "Every network, or one chosen by" : "Network, chosen by";
    this.checkMode(mode);
    this.checkWidth(width);
    this.latency.show(latency_ms);
    this.gflops.show(gflops);
    for (const panel of document.querySelectorAll(".choice")) panel.classList.toggle("chosen", panel.dataset.mode === mode);
  }
}

function tile({ width, gflops, latency_ms }) {
  return el(
    "label",
    { class: `tile ${colour(width)}`, data: { width } },
    el("input", { type: "radio", name: "width", value: width, "aria-label": `Width ${width}, ${gflop(gflops)}` }),
    el("span", { class: "face" }, gauge(width), el("b", {}, width), el("span", {}, gflop(gflops)), el("span", { class: "time" }, ms(latency_ms))),
  );
}
