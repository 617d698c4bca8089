/** Marks under a slider, one per width: a stroke at its place, and a label as near to it as the other labels let it. */

import { colour } from "./badge.js";
import { el } from "./dom.js";

const GAP_PX = 6;
const SVG = "http://www.w3.org/2000/svg";

/**
 * Move places apart until neighbours are `gap` from each other, each as little as possible, within 0 and `end`.
 * @param {number[]} places ascending
 */
export function spread(places, gap, end) {
  const step = Math.min(gap, places.length > 1 ? end / (places.length - 1) : gap);
  const moved = [];
  for (const place of places) moved.push(Math.max(place, (moved.at(-1) ?? -step) + step));
  let most = end;
  for (let i = moved.length - 1; i >= 0; i -= 1, most -= step) moved[i] = Math.min(moved[i], most);
  return moved;
}

export class Marks {
  #marks = [];

  constructor() {
    this.element = el("div", { class: "marks", "aria-hidden": "true" });
    new ResizeObserver(() => this.#lay()).observe(this.element);
  }

  /** @param {{width: string, at: number}[]} marks `at` from 0 to 1, ascending */
  show(marks) {
    this.lines = document.createElementNS(SVG, "svg");
    this.#marks = marks.map(({ width, at }) => {
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("class", colour(width));
      this.lines.append(line);
      return { width, at, line, label: el("span", { class: `tick ${colour(width)}`, data: { width } }, width) };
    });
    this.element.replaceChildren(this.lines, ...this.#marks.map((mark) => mark.label));
    this.#lay();
  }

  /** @param {(width: string) => boolean} isWithin */
  light(isWithin) {
    for (const { width, line, label } of this.#marks) {
      label.classList.toggle("within", isWithin(width));
      line.classList.toggle("within", isWithin(width));
    }
  }

  #lay() {
    const whole = this.element.clientWidth;
    if (!whole) return;
    const half = Math.max(...this.#marks.map(({ label }) => label.offsetWidth)) / 2;
    const wanted = this.#marks.map(({ at }) => at * whole - half);
    const placed = spread(wanted.map((left) => Math.max(0, left)), 2 * half + GAP_PX, whole - 2 * half);
    this.#marks.forEach(({ at, line, label }, i) => {
      label.style.setProperty("--left", `${placed[i]}px`);
      const from = Math.min(Math.max(at * whole, 1), whole - 1);
      line.setAttribute("points", `${from},0 ${from},7 ${placed[i] + half},15`);
    });
  }
}
