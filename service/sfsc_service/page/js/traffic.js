/** What the service answers now, from its metrics, which are asked for while this part of the page can be seen. */

import { Problem, getMetrics } from "./api.js";
import { badge } from "./badge.js";
import { Chart, SPAN_S } from "./chart.js";
import { byId, el } from "./dom.js";
import { ms, percent, perSecond } from "./format.js";
import { parse, sum } from "./prometheus.js";

const EVERY_MS = 1000;

const DEADLINES = "sfsc_deadlines_total";
/** A search waits for its network, then for the index. */
const WAITS = ["sfsc_queue_predicted_seconds", "sfsc_search_queue_predicted_seconds"];

/** The counters that rates are made of, and the gauges, of one reading. */
export function read(text, widths) {
  const samples = parse(text);
  return {
    searches: Object.fromEntries(widths.map((width) => [width, sum(samples, "sfsc_searches_total", { width })])),
    met: sum(samples, DEADLINES, { outcome: "met" }),
    limited: sum(samples, DEADLINES),
    refused: sum(samples, DEADLINES, { outcome: "refused" }),
    queue_ms: 1000 * WAITS.reduce((seconds, name) => seconds + sum(samples, name), 0),
    steps: sum(samples, "sfsc_degradation_steps"),
  };
}

export class Traffic {
  #history = [];
  #inSight = false;

  /** @param {(() => Promise<void>)[]} alongside what else is asked for each time */
  constructor(facts, alongside) {
    Object.assign(this, { facts, alongside });
    this.chart = new Chart(facts.widths);
    new IntersectionObserver(([seen]) => this.#see(seen.isIntersecting)).observe(byId("traffic"));
    document.addEventListener("visibilitychange", () => this.#see(this.#inSight));
  }

  #see(inSight) {
    this.#inSight = inSight;
    const watching = inSight && !document.hidden && !this.isForbidden;
    if (watching && !this.timer) this.timer = setInterval(() => this.#tick(), EVERY_MS);
    if (watching) this.#tick();
    if (!watching) this.timer = clearInterval(this.timer);
  }

  async #tick() {
    if (this.isForbidden) this.#see(this.#inSight);
    if (this.asking || this.isForbidden) return;
    this.asking = true;
    try {
      const [text] = await Promise.all([getMetrics(), ...this.alongside.map((ask) => ask())]);
      this.#take({ at: performance.now() / 1000, ...read(text, this.facts.widths) });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.isForbidden = error.code === "scope_missing";
      byId("traffic-now").replaceChildren(el("p", { class: "hint" }, `${error.title}. ${error.detail}`));
    } finally {
      this.asking = false;
    }
  }

  #take(now) {
    const before = this.reading;
    this.reading = now;
    if (!before || now.at - before.at > 5 || Object.values(now.searches).some((value, i) => value < Object.values(before.searches)[i])) {
      this.#history = [];
      return;
    }
    const rate = (was, is) => Math.max(0, is - was) / (now.at - before.at);
    const rates = Object.fromEntries(this.facts.widths.map((width) => [width, rate(before.searches[width], now.searches[width])]));
    this.#history = [...this.#history.filter(({ at }) => at > now.at - SPAN_S), { at: now.at, rates }];
    this.chart.show(this.#history);
    this.#say(now, before, rates, rate);
  }

  #say(now, before, rates, rate) {
    const limited = now.limited - before.limited;
    const inTime = limited ? percent((now.met - before.met) / limited) : "–";
    const total = Object.values(rates).reduce((sum, one) => sum + one, 0);
    const figures = [
      ["searches answered", perSecond(total)],
      ["in time", inTime],
      ["refused", perSecond(rate(before.refused, now.refused))],
      ["predicted wait", ms(now.queue_ms)],
    ];
    if (!this.facts.isSingle) figures.push(["narrowed in the last batch by", now.steps ? `${now.steps} of ${this.facts.widths.length - 1} widths` : "nothing"]);
    byId("traffic-now").replaceChildren(
      el("ul", { class: "traffic-widths for-several" }, ...this.facts.widths.map((width) => el("li", {}, badge(width, `searched at width ${width}`), " ", perSecond(rates[width])))),
      el("dl", { class: "traffic-figures" }, ...figures.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    );
  }
}
