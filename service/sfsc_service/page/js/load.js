/** The slider of the demo's own load, where the service has one: `sfsc demo` on a loopback address. */

import { getLoad, setLoad } from "./api.js";
import { byId, el } from "./dom.js";
import { perSecond } from "./format.js";
import { upToHere } from "./limits.js";
import { Slider } from "./slider.js";
import { showProblem } from "./status.js";

const LOWEST = 5;

export class Load {
  constructor() {
    byId("load").hidden = false;
    this.slider = new Slider(byId("load-slider"), {
      label: "Searches that this demo makes by itself:",
      format: (value) => (value > LOWEST ? perSecond(value) : "none"),
      fits: (mark, value) => value > LOWEST && mark <= value,
      onChange: (value) => this.#set(value > LOWEST ? value : 0),
    });
    this.slider.range(LOWEST, 10 * LOWEST, new Map());
    this.slider.show(LOWEST);
    byId("load-stop").addEventListener("click", () => this.#set(0));
  }

  /** Ask for its state, which also keeps it going. Throws Problem. */
  async refresh() {
    const state = await getLoad();
    if (!this.slider.input.matches(":active")) this.#show(state);
  }

  async #set(perSecondWanted) {
    try {
      this.#show(await setLoad(perSecondWanted));
    } catch (problem) {
      showProblem(problem, () => this.#set(perSecondWanted));
    }
  }

  #show({ per_s: rate, max_per_s: most, open, refused, capacity_per_s: capacity }) {
    const widths = Object.keys(capacity).sort((one, other) => parseFloat(other) - parseFloat(one));
    const marks = upToHere(widths.map((width) => capacity[width])).map((mark, i) => [widths[i], mark]);
    this.slider.show(Math.max(rate, LOWEST));
    this.slider.range(LOWEST, most, new Map(marks));
    byId("load-stop").disabled = !rate;
    byId("load-now").replaceChildren(el("span", {}, rate ? `${open} under way, ${refused} refused since the start.` : "\u00a0"));
  }
}
