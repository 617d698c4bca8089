/** The hits of one query, and what stands in their place where there are none. */

import { card, kinship } from "./card.js";
import { byId, el } from "./dom.js";
import { ms, plural } from "./format.js";

export const results = (answer, query, onPick) => el("ol", { class: "hits" }, ...answer.hits.map((hit) => card(query, hit, onPick)));

/** An answer as one sentence, for those who hear the page. */
export function spoken(answer, query) {
  const { hits, timing_ms: timing } = answer;
  const same = hits.filter((hit) => kinship(query, hit) === "same").length;
  const known = hits.some((hit) => kinship(query, hit) !== null);
  const identity = known ? `, ${same} of the same identity` : "";
  return `${plural(hits.length, "hit")} at width ${answer.query.width} in ${ms(timing.total)}${identity}.`;
}

/** Places of hits that are still to come, so that nothing moves when they do. */
export const waiting = (number) =>
  el("ol", { class: "hits", "aria-hidden": "true" }, ...Array.from({ length: number }, () => el("li", { class: "card ghost" }, el("div", { class: "frame" }))));

export const unmatched = () =>
  el("div", { class: "empty" }, el("h3", {}, "No image meets the filter"), el("p", {}, "Change the filter, or leave it empty to see all images."));

/** @param isSingle whether there is no width to choose */
export const nothing = (isSingle) =>
  el(
    "div",
    { class: "empty" },
    el("h3", {}, "The gallery is empty"),
    el("p", {}, isSingle ? "Put images in, and this page finds those like a query. " : "Put images in, at any mix of widths, and this page finds them at every other. ", "Drop them here, or"),
    el("label", { for: "files", class: "button" }, "Add images…"),
    el("pre", {}, "sfsc add FOLDER\ncurl -T image.jpg -H 'Content-Type: image/jpeg' \\\n  'http://…/items/my-image" + (isSingle ? "'" : "?width=0.5'")),
  );

export const alone = () => el("div", { class: "empty" }, el("h3", {}, "There is no other image in the gallery"));

export const noQuery = () =>
  el("div", { class: "empty" }, el("h3", {}, "Nothing to search with yet"), el("p", {}, "Choose, drop or paste an image."));

/** Scroll to the hits where they cannot be seen, as after a choice in a narrow window. */
export function bringIntoSight() {
  const { top, bottom } = byId("output").getBoundingClientRect();
  if (top > 0.7 * innerHeight || bottom < 0.3 * innerHeight) byId("answer").scrollIntoView({ block: "start" });
}

/** Move the focus to the results, whose beginning comes into sight. */
export function focusResults() {
  byId("results").focus({ preventScroll: true });
  const { top } = byId("results").getBoundingClientRect();
  if (top < 0 || top > 0.5 * innerHeight) byId("results").scrollIntoView({ block: "start" });
}

/** Give the focus to an item's button; returns whether there is one. */
export function focusItem(id) {
  const found = [...document.querySelectorAll("#output [data-id]")].find((one) => one.dataset.id === id);
  found?.querySelector("button")?.focus();
  return Boolean(found);
}
