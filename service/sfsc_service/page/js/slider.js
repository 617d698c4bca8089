/** A limit on a slider, with a mark at what each width costs or reaches. */

import { el } from "./dom.js";
import { Marks } from "./marks.js";

const STEPS = 120;
const SLACK = 1 + 1e-9;  // of sums of decimals, which an end of the slider has been rounded without

/** How a slider's places relate to values: `place` gives 0 to 1 for low to high. */
export const LOGARITHMIC = {
  place: (value, low, high) => Math.log(value / low) / Math.log(high / low),
  value: (place, low, high) => Number((low * (high / low) ** place).toPrecision(2)),
};
export const LINEAR = {
  place: (value, low, high) => (value - low) / (high - low),
  value: (place, low, high) => Number((low + place * (high - low)).toFixed(1)),
};

/**
 * @param {Element} place
 * @param {Object} options `label`, `format(value)`, `onChange(value)`; `scale`; `fits(mark, value)`: whether a width is
 *   within the limit; `unmet`: said behind the value where no width is
 */
export class Slider {
  #marked = new Map();

  constructor(place, { label, format, onChange, scale = LOGARITHMIC, fits = (mark, value) => mark <= value * SLACK, unmet = "" }) {
    Object.assign(this, { scale, format, fits, unmet });
    this.input = el("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": label });
    this.output = el("output", {});
    this.marks = new Marks();
    place.replaceChildren(el("p", { class: "budget" }, `${label} `, this.output), this.input, this.marks.element);
    this.input.addEventListener("input", () => this.#say((this.value = this.#chosen())));
    this.input.addEventListener("change", () => onChange((this.value = this.#chosen())));
  }

  /** Show a value, which may lie beyond the ends. */
  show(value) {
    this.value = value;
    this.#move();
  }

  /**
   * @param {number} low @param {number} high the values of the ends
   * @param {Map<string, number>} marked name of a width → its value; ascending
   */
  range(low, high, marked) {
    Object.assign(this, { low, high });
    this.#marked = marked;
    this.marks.show([...marked].map(([width, value]) => ({ width, at: this.#place(value) })));
    this.#move();
  }

  #place(value) {
    return Math.min(1, Math.max(0, this.scale.place(value, this.low, this.high)));
  }

  #chosen() {
    return this.scale.value(this.input.value / STEPS, this.low, this.high);
  }

  #move() {
    if (this.low === undefined || this.value === undefined) return;
    this.input.value = Math.round(this.#place(this.value) * STEPS);
    this.#say(this.value);
  }

  #say(value) {
    const isMet = [...this.#marked.values()].some((mark) => this.fits(mark, value));
    this.output.value = this.format(value) + (isMet ? "" : this.unmet);
    this.input.setAttribute("aria-valuetext", this.output.value);
    this.marks.light((width) => this.fits(this.#marked.get(width), value));
  }
}
