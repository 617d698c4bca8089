/** What the service says of itself at /widths, fresh after every answer. */

import { getWidths } from "./api.js";

export class Facts {
  #observers = [];

  /** Asks the service. Throws Problem. */
  async refresh() {
    const answer = await getWidths();
    this.answer = { ...answer, widths: answer.widths.map((one) => ({ ...one, median_ms: one.batch_ms[1] ?? one.latency_ms })) };
    for (const observer of this.#observers) observer(this);
  }

  observe(observer) {
    this.#observers.push(observer);
  }

  /** Names of the widths, ascending. */
  get widths() {
    return this.answer.widths.map((one) => one.width);
  }

  /** A width's `gflops`, `median_ms` (of its network, for one image), `parameters`; undefined for one that the bundle does not have. */
  width(name) {
    return this.answer.widths.find((one) => one.width === name);
  }

  /** Whether there is no width to choose: nothing is said then of several. */
  get isSingle() {
    return this.answer.widths.length === 1;
  }

  get full() {
    return this.answer.widths.at(-1);
  }

  get items() {
    return this.answer.gallery.items;
  }
}
