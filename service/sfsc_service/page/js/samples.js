/** Sample images to choose from, as radio buttons. */

import { byId, el, radios } from "./dom.js";
import { short } from "./format.js";

export function showSamples(samples, state) {
  const place = byId("samples");
  place.hidden = !samples.length;
  place.replaceChildren(...samples.map(one));
  const check = radios("sample", (name) => state.set({ sample: name, item: null }));
  check(state.values.sample);
  state.observe((values, changed) => changed.includes("sample") && check(values.sample));
}

function one({ name, image, metadata }) {
  const words = Object.values(metadata).filter((value) => typeof value === "string").slice(0, 4);
  return el(
    "label",
    { class: "sample" },
    el("input", { type: "radio", name: "sample", value: name, "aria-label": `Sample: ${words.map((word) => short(word, 30)).join(", ") || name}` }),
    el("img", { src: image, alt: "", width: 64, height: 64, decoding: "async" }),
  );
}
