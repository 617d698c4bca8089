/** The query's image: a sample, an image of the gallery, or one of the visitor's own. */

import { Problem, getItem, fetchImage } from "./api.js";
import { byId, el } from "./dom.js";
import { bytes, short } from "./format.js";

const MAX_FACTS = 5;

export class QueryImage {
  #preview = byId("preview");
  #about = byId("about");
  #observers = [];
  #wanted = null;

  /** @param samples the service's samples, as /samples lists them */
  constructor(state, samples) {
    this.state = state;
    this.samples = samples;
    this.current = null;
    state.observe((values, changed) => {
      if (changed.includes("sample") || changed.includes("item")) this.#follow(values);
    });
  }

  observe(observer) {
    this.#observers.push(observer);
  }

  /** Show what the address names; without a name, the first sample. */
  start() {
    const { sample, item } = this.state.values;
    if (!item && !this.samples.some((one) => one.name === sample) && this.samples.length) {
      this.state.set({ sample: this.samples[0].name });
    } else {
      this.#follow(this.state.values);
    }
  }

  /** Take a file of the visitor's own. */
  own(file) {
    this.#wanted = file;
    this.state.set({ sample: null, item: null });
    const about = { image: file.name || "pasted", size: bytes(file.size) };
    this.#show({ blob: file, metadata: null, about, item: null, alt: "Your image" });
  }

  async #follow({ sample, item }) {
    const wanted = (this.#wanted = item ? `item ${item}` : sample ? `sample ${sample}` : this.#wanted);
    if (!item && !sample) return;
    try {
      const found = item ? await this.#item(item) : await this.#sample(sample);
      if (this.#wanted === wanted) this.#show(found);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (this.#wanted === wanted) this.#tell(null, error);
    }
  }

  async #sample(name) {
    const sample = this.samples.find((one) => one.name === name);
    if (!sample) throw new Problem("unknown", "There is no such sample", `The address of this page names ${short(name)}.`);
    const blob = await fetchImage(sample.image);
    return { blob, metadata: sample.metadata, about: sample.metadata, item: null, alt: `Sample ${name}` };
  }

  async #item(id) {
    const item = await getItem(id);
    return { blob: item.blob, metadata: item.metadata, about: { gallery: id, ...item.metadata }, item: id, alt: `Image ${id}` };
  }

  #show(chosen) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(chosen.blob);
    const image = el("img", { src: this.url, alt: chosen.alt });
    image.addEventListener("error", () => this.#preview.replaceChildren(el("p", {}, "No preview")));
    this.#preview.replaceChildren(image);
    const facts = Object.entries(chosen.about).slice(0, MAX_FACTS);
    this.#about.replaceChildren(...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, short(value, 40))]));
    this.#tell(chosen, null);
  }

  #tell(chosen, problem) {
    this.current = chosen;
    for (const observer of this.#observers) observer(chosen, problem);
  }
}

/** Files that come by the button, by drag and drop anywhere on the page, or from the clipboard. */
export function takeFiles(onFile) {
  const input = byId("file");
  input.addEventListener("change", () => {
    if (input.files.length) onFile(input.files[0]);
    input.value = "";
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    onFile(file);
  });
  const dragging = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (on) => document.body.classList.toggle("drag", on);
  addEventListener("dragover", (event) => {
    if (!dragging(event)) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark(false);
  });
  addEventListener("drop", (event) => {
    if (!dragging(event)) return;
    event.preventDefault();
    mark(false);
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
}
