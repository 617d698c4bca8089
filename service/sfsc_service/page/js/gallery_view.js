/** The gallery, a page at a time, in the order of the ids. */

import { deleteItem, getItems } from "./api.js";
import { moreLikeThis, words } from "./card.js";
import { confirmed } from "./confirm.js";
import { byId, el } from "./dom.js";
import { suggestFilter } from "./filter_hint.js";
import { plural, short } from "./format.js";
import { unmatched } from "./results.js";
import { showProblem } from "./status.js";

const PAGE = 24;

export class GalleryView {
  /** Cursors of pages that were come from, by the cursor of the page that was gone to. */
  #before = new Map();

  /**
   * @param onPick called with an item's id, to search for more like it
   * @param onChange called after a deletion
   */
  constructor(state, facts, onPick, onChange) {
    Object.assign(this, { state, facts, onPick, onChange });
  }

  /** The elements of the page that the state names. Throws Problem. */
  async page(signal) {
    const { cursor, filter } = this.state.values;
    const { items, next } = await getItems(cursor, PAGE, filter, signal);
    if (filter && !items.length) return [unmatched()];
    if (next) this.#before.set(next, cursor);
    suggestFilter(items);
    byId("announcer").textContent = `${plural(items.length, "image")} of the gallery are shown.`;
    return [
      el("p", { class: "hint gallery-note" }, `${plural(this.facts.items, "image")}, in the order of their ids. Drop images here to add them.`),
      el("ol", { class: "hits browse" }, ...items.map((item) => this.#card(item))),
      this.#turning(cursor, next),
    ];
  }

  #turning(cursor, next) {
    const button = (label, to, usable) => {
      const made = el("button", { type: "button", class: "button", disabled: !usable }, label);
      made.addEventListener("click", () => this.state.go({ cursor: to }));
      return made;
    };
    return el(
      "nav",
      { class: "turning", "aria-label": "Pages of the gallery" },
      button("First", null, cursor),
      button("Previous", this.#before.get(cursor) ?? null, cursor),
      button("Next", next, next),
    );
  }

  #card(item) {
    const remove = el("button", { type: "button", class: "remove", "aria-label": `Delete ${short(item.id, 80)}`, title: "Delete" }, "Delete");
    const card = el(
      "li",
      { class: "card", data: { id: item.id } },
      moreLikeThis(item, this.onPick),
      remove,
      el("p", { class: "id" }, short(item.id, 60)),
      el("p", { class: "words" }, caption(item)),
    );
    remove.addEventListener("click", () => this.#delete(item.id, card));
    return card;
  }

  async #delete(id, card) {
    if (!(await confirmed(`Delete ${short(id, 120)}?`, "Its image, vector and metadata are removed. This cannot be undone.", "Delete"))) return;
    try {
      await deleteItem(id);
    } catch (problem) {
      showProblem(problem, () => this.#delete(id, card));
      return;
    }
    const neighbour = card.nextElementSibling ?? card.previousElementSibling;
    card.remove();
    (neighbour?.querySelector(".remove") ?? byId("results")).focus();
    byId("announcer").textContent = `${short(id, 80)} was deleted.`;
    await this.onChange();
  }
}

function caption({ metadata }) {
  const { identity } = metadata;
  return [identity === undefined ? null : short(identity, 30), words(metadata)].filter(Boolean).join(" · ") || "\u00a0";
}
