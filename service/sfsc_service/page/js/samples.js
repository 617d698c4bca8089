/** Images to search with at a click, as radio buttons: the service's samples or, where it has none, some of its gallery. */

import { getItems, getSamples, showImage } from "./api.js";
import { byId, el, radios } from "./dom.js";
import { short } from "./format.js";

const SHOWN = 12;
const LOOKED_THROUGH = 200;

/** `isComplete` is false where a larger gallery would give more. `list` has, of each sample, its `image`, `metadata`, `item` (the id of the same image, or null) and the `patch` of the state. */
export class Samples {
  list = [];

  /** Asks the service. Throws Problem. */
  async load() {
    const samples = await getSamples();
    this.list = samples.length ? samples.map(ofService) : ofGallery((await getItems(null, LOOKED_THROUGH)).items);
    this.isComplete = samples.length > 0 || this.list.length === SHOWN;
  }

  show(state) {
    byId("samples").hidden = !this.list.length;
    byId("samples").replaceChildren(...this.list.map(radio));
    this.check ??= this.#follow(state);
    this.check(state.values);
  }

  #follow(state) {
    const check = radios("sample", (key) => state.go({ own: null, ...this.list.find((one) => one.key === key).patch }));
    const checkValues = ({ sample, item }) => check(sample ? `sample ${sample}` : `item ${item}`);
    state.observe(checkValues);
    return checkValues;
  }
}

function ofService({ name, image, metadata, item }) {
  return { key: `sample ${name}`, name, image, metadata, item, patch: { sample: name, item: null } };
}

/** Items with an image, those of different identities first. */
function ofGallery(items) {
  const seen = new Set();
  const isNew = ({ id, metadata: { identity = id } }) => !seen.has(identity) && seen.add(identity);
  const shown = items.filter((item) => item.image);
  const first = shown.filter(isNew);
  const all = [...first, ...shown.filter((item) => !first.includes(item))].slice(0, SHOWN);
  return all.map(({ id, image, metadata }) => ({ key: `item ${id}`, name: id, image, metadata, item: id, patch: { sample: null, item: id } }));
}

function radio({ key, name, image, metadata }) {
  const words = Object.values(metadata).filter((value) => typeof value === "string").slice(0, 4);
  const picture = el("img", { alt: "", width: 64, height: 64, decoding: "async" });
  showImage(picture, image);
  const label = `Sample: ${words.map((word) => short(word, 30)).join(", ") || short(name, 60)}`;
  return el("label", { class: "sample" }, el("input", { type: "radio", name: "sample", value: key, "aria-label": label }), picture);
}
