/** The hits of one query. */

import { card, kinship } from "./card.js";
import { el } from "./dom.js";
import { ms, plural } from "./format.js";

export const HITS = 10;

export function results(answer, query, onPick) {
  if (!answer.hits.length) return nothing();
  return el("ol", { class: "hits" }, ...answer.hits.map((hit) => card(query, hit, onPick)));
}

/** An answer as one sentence, for those who hear the page. */
export function spoken(answer, query) {
  const { hits, timing_ms: timing } = answer;
  const same = hits.filter((hit) => kinship(query, hit) === "same").length;
  const known = hits.some((hit) => kinship(query, hit) !== null);
  const identity = known ? `, ${same} of the same identity` : "";
  return `${plural(hits.length, "hit")} at width ${answer.query.width} in ${ms(timing.total)}${identity}.`;
}

/** Places of hits that are still to come, so that nothing moves when they do. */
export const waiting = () =>
  el("ol", { class: "hits", "aria-hidden": "true" }, ...Array.from({ length: HITS }, () => el("li", { class: "card ghost" }, el("div", { class: "frame" }))));

export const nothing = () =>
  el(
    "div",
    { class: "empty" },
    el("h3", {}, "The gallery is empty"),
    el("p", {}, "Put images in, at any mix of widths, and this page finds them at every other:"),
    el("pre", {}, "sfsc demo --images FOLDER\ncurl -T image.jpg -H 'Content-Type: image/jpeg' \\\n  'http://…/items/my-image?width=0.5'"),
  );

export const noQuery = () =>
  el("div", { class: "empty" }, el("h3", {}, "Nothing to search with yet"), el("p", {}, "Choose, drop or paste an image."));
