/** A budget on a logarithmic slider, with a mark at what each width costs. */

import { colour } from "./badge.js";
import { el } from "./dom.js";

const STEPS = 120;

const rounded = (value) => Number(value.toPrecision(2));

/**
 * @param {Element} place
 * @param {{label: string, low: number, high: number, format: (value: number) => string, onChange: (value: number) => void}} options
 */
export class Slider {
  constructor(place, { label, low, high, format, onChange }) {
    Object.assign(this, { low, high, format });
    this.input = el("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": label });
    this.output = el("output", {});
    this.marks = el("div", { class: "marks", "aria-hidden": "true" });
    place.replaceChildren(el("p", { class: "budget" }, `${label} `, this.output), this.input, this.marks);
    this.input.addEventListener("input", () => this.#say(this.#value()));
    this.input.addEventListener("change", () => onChange(this.#value()));
  }

  show(value) {
    this.input.value = Math.round(this.#place(value) * STEPS);
    this.#say(value);
  }

  /** @param costs name of a width → what it costs, in the slider's unit; ascending */
  mark(costs) {
    this.costs = costs;
    const marks = [...costs].map(([width, cost]) =>
      el("span", { class: `tick ${colour(width)}`, data: { width }, css: { "--at": this.#place(cost) } }, el("i"), width),
    );
    this.marks.replaceChildren(...marks);
    this.#light(this.#value());
  }

  #place(value) {
    return Math.min(1, Math.max(0, Math.log(value / this.low) / Math.log(this.high / this.low)));
  }

  #value() {
    return rounded(this.low * (this.high / this.low) ** (this.input.value / STEPS));
  }

  #say(value) {
    this.output.value = this.format(value);
    this.input.setAttribute("aria-valuetext", this.format(value));
    this.#light(value);
  }

  #light(value) {
    for (const tick of this.marks.children) tick.classList.toggle("within", this.costs.get(tick.dataset.width) <= value);
  }
}
