/** The dialog that adds files to the gallery: asks once, then shows what becomes of each. */

import { byId, el } from "./dom.js";
import { bytes, plural, short } from "./format.js";
import { upload } from "./upload.js";

export class Adding {
  #dialog = byId("adding");
  #results = byId("adding-results");
  #stop = null;

  /** @param onAdded called when files have been added */
  constructor(facts, onAdded) {
    Object.assign(this, { facts, onAdded });
    byId("adding-width").replaceChildren(
      el("option", { value: "" }, "as the service chooses"),
      ...facts.widths.map((width) => el("option", { value: width }, width)),
    );
    byId("adding-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    byId("adding-cancel").addEventListener("click", () => (this.#stop ? this.#stop.abort() : this.#dialog.close()));
    this.#dialog.addEventListener("cancel", (event) => this.#stop && event.preventDefault());
  }

  /** Ask about some files. */
  open(files) {
    this.files = files;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    byId("adding-what").textContent = `${plural(files.length, "file")}, ${bytes(size)}.`;
    byId("adding-identity").value = "";
    this.#results.replaceChildren();
    this.#phase("asking", "Cancel");
    byId("adding-status").textContent = "";
    this.#dialog.showModal();
    byId("adding-identity").focus();
  }

  async #add() {
    const identity = byId("adding-identity").value.trim();
    const options = {
      metadata: identity ? { identity } : {},
      width: byId("adding-width").value || null,
      limits: this.facts.answer.limits,
    };
    this.#stop = new AbortController();
    const done = { stored: 0, left: 0 };
    this.#phase("running", "Stop");
    byId("adding-cancel").focus();
    this.#tell(done);
    await upload(this.files, options, (file, outcome) => {
      done[outcome.stored ? "stored" : "left"] += 1;
      this.#results.append(line(file, outcome));
      this.#tell(done);
    }, this.#stop.signal);
    this.#stop = null;
    this.#phase("done", "Close");
    this.#tell(done, "Stopped. ");
    await this.onAdded();
  }

  #phase(name, verb) {
    this.#dialog.dataset.phase = name;
    byId("adding-cancel").textContent = verb;
    for (const id of ["adding-identity", "adding-width", "adding-start"]) byId(id).disabled = name !== "asking";
  }

  #tell({ stored, left }, stopped = "") {
    byId("adding-progress").max = this.files.length;
    byId("adding-progress").value = stored + left;
    const ended = stored + left === this.files.length;
    const faults = left ? `, ${left} left out` : "";
    byId("adding-status").textContent = `${ended ? "" : stopped}${stored} of ${plural(this.files.length, "file")} added${faults}.`;
  }
}

function line(file, { stored, problem }) {
  const said = stored
    ? `${stored.created ? "added" : "replaced"} at width ${stored.width}`
    : `${problem.title}. ${problem.detail}`;
  return el("li", { class: stored ? "stored" : "left-out" }, el("span", { class: "id" }, short(file.name, 80)), el("span", {}, said));
}
