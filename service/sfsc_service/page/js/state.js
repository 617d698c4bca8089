/**
 * What a view consists of, kept in the address so that it can be shared.
 *
 * `sample` or `item` names the image (an image of the visitor's own has no name and is not in the address).
 */

const ALLOWED = {
  mode: ["width", "latency", "gflops", "auto"],
  view: ["hits", "compare"],
  metric: ["mean_ap", "rank1"],
};
const NUMBERS = ["latency_ms", "gflops"];
const FLAGS = ["details"];
const NAMES = ["sample", "item", "width"];

/** Reads an address; what is not understood is left out. */
export function parse(hash) {
  const read = {};
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (ALLOWED[name]?.includes(value)) read[name] = value;
    else if (NUMBERS.includes(name) && Number(value) > 0 && Number(value) <= 3.6e6) read[name] = Number(value);
    else if (FLAGS.includes(name) && value === "1") read[name] = true;
    else if (NAMES.includes(name) && value.length <= 256) read[name] = value;
  }
  return read;
}

/** The address of a view: what differs from the defaults, and the limit that is in force. */
export function write(state, defaults) {
  const limit = { latency: "latency_ms", gflops: "gflops" }[state.mode];
  const silent = [...NUMBERS.filter((name) => name !== limit), ...(state.mode === "width" ? [] : ["width"])];
  const query = new URLSearchParams();
  for (const name of [...NAMES, ...Object.keys(ALLOWED), ...NUMBERS]) {
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

  constructor(defaults) {
    this.defaults = defaults;
    this.#values = { ...defaults, ...parse(location.hash) };
    addEventListener("hashchange", () => this.#take({ ...this.#empty(), ...this.defaults, ...parse(location.hash) }));
  }

  get values() {
    return this.#values;
  }

  set(patch) {
    this.#take(patch);
    history.replaceState(null, "", write(this.#values, this.defaults));
  }

  observe(observer) {
    this.#observers.push(observer);
  }

  #empty() {
    return Object.fromEntries(Object.keys(this.#values).map((name) => [name, null]));
  }

  #take(patch) {
    const changed = Object.keys(patch).filter((name) => patch[name] !== this.#values[name]);
    if (!changed.length) return;
    this.#values = { ...this.#values, ...patch };
    for (const observer of this.#observers) observer(this.#values, changed);
  }
}
