/** How the query's network is chosen: exactly one width, a limit of time, work or quality, or by the service. */

import { colour, gauge } from "./badge.js";
import { byId, el, radios } from "./dom.js";
import { gflop, mAP, ms } from "./format.js";
import { Overhead, latencies, qualities, works } from "./limits.js";
import { LINEAR, Slider } from "./slider.js";

/** The limits of a search, as the service's parameters. */
export function budget({ mode, width, latency_ms, gflops, min_quality }) {
  if (mode === "width") return { width };
  if (mode === "latency") return { latency_ms };
  if (mode === "gflops") return { gflops };
  if (mode === "quality") return { min_quality };
  return {};
}

export class Choice {
  #overhead = new Overhead();

  /** @param onChosen called after a visitor's own choice */
  constructor(state, facts, onChosen) {
    Object.assign(this, { state, facts, onChosen });
    this.#controls();
    this.#sliders();
    facts.observe(() => this.#costs());
    state.observe((values) => this.#show(values));
    this.#show(state.values);
  }

  /** Learn from an answer what a search takes beside its network. */
  answered(timing) {
    this.#overhead.answered(timing);
  }

  /** Who chooses a network wants to see what it finds, and not what all of them do. */
  #choose(patch) {
    this.state.go({ ...patch, view: "hits" });
    this.onChosen();
  }

  #controls() {
    byId("widths").replaceChildren(...this.facts.widths.map((width) => tile(this.facts.width(width))));
    byId("slo").textContent = ms(this.facts.answer.slo_ms);
    this.checkMode = radios("mode", (mode) => this.#choose({ mode }));
    this.checkWidth = radios("width", (width) => this.#choose({ width }));
  }

  #sliders() {
    const limit = (name, options) => new Slider(byId(name), { ...options, unmet: ": no width can", onChange: (value) => this.#choose({ [name]: value }) });
    this.sliders = {
      latency_ms: limit("latency_ms", { label: "Answer within", format: ms }),
      gflops: limit("gflops", { label: "At most", format: gflop }),
      min_quality: limit("min_quality", { label: "At least", format: mAP, scale: LINEAR, fits: (mark, value) => mark >= value }),
    };
    this.#costs();
  }

  #costs() {
    const { widths } = this.facts.answer;
    const limits = { latency_ms: latencies(widths, this.#overhead.ms), gflops: works(widths), min_quality: qualities(widths) };
    for (const [name, { low, high, marks }] of Object.entries(limits)) {
      const slider = this.sliders[name];
      if (!slider.input.matches(":active")) slider.range(low, high, marks);
    }
    for (const one of widths) {
      byId("widths").querySelector(`[data-width="${one.width}"] .time`).textContent = ms(one.median_ms);
    }
  }

  #show(values) {
    byId("choice-title").textContent = this.facts.isSingle ? "Network" : values.view === "hits" ? "Network, chosen by" : "Every network, or one chosen by";
    this.checkMode(values.mode);
    this.checkWidth(values.width);
    for (const [name, slider] of Object.entries(this.sliders)) slider.show(values[name]);
    for (const panel of document.querySelectorAll(".choice")) panel.classList.toggle("chosen", panel.dataset.mode === values.mode);
  }
}

function tile({ width, gflops, median_ms }) {
  return el(
    "label",
    { class: `tile ${colour(width)}`, data: { width } },
    el("input", { type: "radio", name: "width", value: width, "aria-label": `Width ${width}, ${gflop(gflops)}` }),
    el("span", { class: "face" }, gauge(width), el("b", {}, width), el("span", { class: "work" }, gflop(gflops)), el("span", { class: "time" }, ms(median_ms))),
  );
}
