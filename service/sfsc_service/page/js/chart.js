/** Searches a second by width over the last minute, stacked: the narrowest below. */

import { colour } from "./badge.js";
import { byId, el } from "./dom.js";
import { perSecond } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
export const SPAN_S = 60;

/** 1, 2 or 5 times a power of ten, at least `value`. */
export function niceTop(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * unit).find((top) => top >= value);
}

export class Chart {
  constructor(widths) {
    this.widths = widths;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${SPAN_S} 100`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.areas = widths.map((width) => {
      const area = document.createElementNS(SVG, "path");
      area.setAttribute("class", `area ${colour(width)}`);
      return area;
    });
    this.svg.append(...this.areas);
    this.top = el("span", { class: "top-value" });
    byId("traffic-chart").replaceChildren(this.svg, this.top);
  }

  /** @param {{at: number, rates: Object}[]} history in seconds, ascending; rates a second, by width */
  show(history) {
    const last = history.at(-1);
    const total = ({ rates }) => this.widths.reduce((sum, width) => sum + rates[width], 0);
    const top = niceTop(Math.max(...history.map(total)));
    this.top.textContent = perSecond(top);
    const x = ({ at }) => (SPAN_S - (last.at - at)).toFixed(2);
    let below = history.map(() => 0);
    this.widths.forEach((width, i) => {
      const above = history.map(({ rates }, j) => below[j] + rates[width]);
      const y = (value) => (100 - (100 * value) / top).toFixed(2);
      const up = history.map((one, j) => `${x(one)} ${y(above[j])}`);
      const down = history.map((one, j) => `${x(one)} ${y(below[j])}`).reverse();
      this.areas[i].setAttribute("d", `M${[...up, ...down].join("L")}Z`);
      below = above;
    });
    const parts = this.widths.map((width) => `width ${width}: ${perSecond(last.rates[width])}`);
    byId("traffic-chart").setAttribute("aria-label", `Searches a second now, ${parts.join(", ")}`);
  }
}
