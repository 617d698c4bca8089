/**
 * What a view consists of, kept in the address so that it can be shared, and in the browser's history.
 *
 * `sample` or `item` names the query's image. An image of the visitor's own has a number, `own`, which holds for this
 * visit and is not in the address. `cursor` names a page of the gallery; `filter` is JSON, as it was typed.
 */

const ALLOWED = {
  mode: ["width", "latency", "gflops", "quality", "auto"],
  view: ["hits", "compare", "gallery"],
  metric: ["mean_ap", "rank1"],
};
const LIMITS = { latency: "latency_ms", gflops: "gflops", quality: "min_quality" };
const NUMBERS = [...Object.values(LIMITS), "k"];
const FLAGS = ["details"];
const LONGEST = { sample: 256, item: 256, width: 256, cursor: 2048, filter: 2048 };

/** So long after a step, another one of the same kind takes its place: held arrow keys make one entry of the history. */
const SAME_STEP_MS = 1000;

/** Reads an address; what is not understood is left out. */
export function parse(hash) {
  const read = {};
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (ALLOWED[name]?.includes(value)) read[name] = value;
    else if (NUMBERS.includes(name) && Number(value) > 0 && Number(value) <= 3.6e6) read[name] = Number(value);
    else if (FLAGS.includes(name) && value === "1") read[name] = true;
    else if (value.length <= LONGEST[name]) read[name] = value;
  }
  return read;
}

/** The address of a view: what differs from the defaults, and the limit that is in force. */
export function write(state, defaults) {
  const limit = LIMITS[state.mode];
  const silent = [...Object.values(LIMITS).filter((name) => name !== limit), ...(state.mode === "width" ? [] : ["width"])];
  if (state.view !== "gallery") silent.push("cursor");
  const query = new URLSearchParams();
  for (const name of [...Object.keys(LONGEST), ...Object.keys(ALLOWED), ...NUMBERS]) {
    const plain = state[name] === defaults[name] && name !== limit;
    if (state[name] && !plain && !silent.includes(name)) query.set(name, state[name]);
  }
  for (const name of FLAGS) if (state[name]) query.set(name, "1");
  return `#${query}`;
}

/** One observable object. Observers get (state, names of what changed). */
export class State {
  #values;
  #observers = [];
  #left = null;
  #step = { names: "", at: -Infinity };

  constructor(defaults) {
    this.defaults = defaults;
    this.#values = { ...defaults, own: history.state?.own ?? null, ...parse(location.hash) };
    addEventListener("popstate", () => this.#follow());
    addEventListener("hashchange", () => this.#follow());
  }

  get values() {
    return this.#values;
  }

  /** After a way back: the id of the item by which the visitor had left this view, once; else null. */
  takeLeft() {
    const left = this.#left;
    this.#left = null;
    return left;
  }

  /** Change a setting: the browser's Back does not take it back. */
  set(patch) {
    this.#take(patch);
    history.replaceState({ ...history.state, own: this.#values.own }, "", this.#address());
  }

  /**
   * Go to another view, from which Back leads to this one.
   * @param left the id of the item that was chosen, which gets the focus again after Back
   */
  go(patch, left = null) {
    const changed = this.#take(patch);
    if (!changed.length) return;
    const step = { names: changed.join(), at: performance.now() };
    const held = step.names === this.#step.names && step.at - this.#step.at < SAME_STEP_MS;
    const same = held && left === null && !changed.includes("cursor"); // every page of the gallery is turned by a press
    this.#step = step;
    if (left !== null) history.replaceState({ ...history.state, left }, "");
    history[same ? "replaceState" : "pushState"]({ own: this.#values.own }, "", this.#address());
  }

  observe(observer) {
    this.#observers.push(observer);
  }

  #address() {
    return write(this.#values, this.defaults);
  }

  #follow() {
    this.#step = { names: "", at: -Infinity };
    this.#left = history.state?.left ?? null;
    const empty = Object.fromEntries(Object.keys(this.#values).map((name) => [name, null]));
    this.#take({ ...empty, ...this.defaults, own: history.state?.own ?? null, ...parse(location.hash) });
  }

  #take(patch) {
    const changed = Object.keys(patch).filter((name) => patch[name] !== this.#values[name]);
    if (!changed.length) return changed;
    this.#values = { ...this.#values, ...patch };
    for (const observer of this.#observers) observer(this.#values, changed);
    return changed;
  }
}
