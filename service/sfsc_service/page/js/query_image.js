/** The query's image: a sample, an image of the gallery, or one of the visitor's own. */

import { Problem, fetchImage, getItem, previewOf, showImage } from "./api.js";
import { byId, el } from "./dom.js";
import { bytes, short } from "./format.js";

const MAX_FACTS = 5;

export class QueryImage {
  #preview = byId("preview");
  #thumb = byId("thumb");
  #about = byId("about");
  #observers = [];
  #wanted = null;
  #own = [];

  /** @param samples `list`, as `Samples` has it */
  constructor(state, samples) {
    this.state = state;
    this.samples = samples;
    this.current = null;
    this.isLoading = false;
    state.observe((values, changed) => {
      if (["sample", "item", "own"].some((name) => changed.includes(name))) this.#follow(values);
    });
  }

  /** Observers get (the query, or null where there is none; the problem, or null). */
  observe(observer) {
    this.#observers.push(observer);
  }

  /** Show what the address names; without a name, the first sample. */
  start() {
    const { sample, item, own } = this.state.values;
    const named = item || this.samples.list.some((one) => one.patch.sample && one.patch.sample === sample);
    if (named || (own && this.#own[own - 1])) this.#follow(this.state.values);
    else if (this.samples.list.length) this.state.set({ own: null, ...this.samples.list[0].patch });
  }

  /** Take a file of the visitor's own. */
  own(file) {
    const number = this.#own.push(file);
    this.state.go({ sample: null, item: null, own: number, ...(this.state.values.view === "gallery" && { view: "hits" }) });
  }

  async #follow({ sample, item, own }) {
    this.isLoading = true;
    const wanted = (this.#wanted = JSON.stringify([sample, item, own]));
    try {
      const found = item ? await this.#item(item) : sample ? await this.#sample(sample) : this.#mine(own);
      if (this.#wanted === wanted) this.#show(found);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (this.#wanted === wanted) this.#tell(null, error);
    }
  }

  async #sample(name) {
    const sample = this.samples.list.find((one) => one.patch.sample === name);
    if (!sample) throw new Problem("unknown", "There is no such sample", `The address of this page names ${short(name)}.`);
    const blob = await fetchImage(sample.image);
    return { blob, metadata: sample.metadata, about: sample.metadata, item: sample.item, alt: `Sample ${name}` };
  }

  async #item(id) {
    const item = await getItem(id);
    return { blob: item.blob, metadata: item.metadata, about: { gallery: id, ...item.metadata }, item: id, path: item.image, alt: `Image ${id}` };
  }

  #mine(number) {
    const file = this.#own[number - 1];
    if (!file) throw new Problem("unknown", "Your image is not here any more", "This page keeps it until it is loaded anew. Choose it again.");
    return { blob: file, metadata: null, about: { image: file.name || "pasted", size: bytes(file.size) }, item: null, alt: "Your image" };
  }

  #show(query) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = query.blob && URL.createObjectURL(query.blob);
    this.#preview.replaceChildren(this.#picture(query, query.alt));
    this.#thumb.replaceChildren(this.#picture(query, ""));
    const facts = Object.entries(query.about).slice(0, MAX_FACTS);
    this.#about.replaceChildren(...facts.flatMap(([name, value]) => [el("dt", {}, short(name, 24)), el("dd", {}, short(value, 40))]));
    this.#tell(query, null);
  }

  #picture(query, alt) {
    if (!this.url) return el("p", {}, "No image");
    const image = el("img", { src: this.url, alt });
    const giveUp = () => image.replaceWith(el("p", {}, "No preview"));
    const tryPreview = () => {
      image.addEventListener("error", giveUp, { once: true });
      showImage(image, previewOf(query.path));
    };
    image.addEventListener("error", query.path ? tryPreview : giveUp, { once: true });
    return image;
  }

  #tell(query, problem) {
    this.current = query;
    this.isLoading = false;
    for (const observer of this.#observers) observer(query, problem);
  }
}
