/** One hit as a card, or small as a tile. */

import { previewOf, showImage } from "./api.js";
import { itemBadge } from "./badge.js";
import { el } from "./dom.js";
import { score, short } from "./format.js";

const MAX_ENTRIES = 10;
const WORDS = 3;
/** Metadata that no caption shows: it is said by the verdict, or it is bookkeeping. */
const HIDDEN = new Set(["identity", "added_from"]);

/** Whether a hit shows what the query shows: "same", "other", or null where either has no identity. */
export function kinship(query, hit) {
  const identity = query.metadata?.identity;
  if (identity === undefined || hit.metadata.identity === undefined) return null;
  return identity === hit.metadata.identity ? "same" : "other";
}

const VERDICTS = { same: "same identity", other: "different" };

function verdict(kind) {
  return kind && el("span", { class: `verdict ${kind}` }, VERDICTS[kind]);
}

/** @param onPick called with the hit's id, to search for more like it */
export function card(query, hit, onPick) {
  return el(
    "li",
    { class: "card", data: { id: hit.id } },
    moreLikeThis(hit, onPick),
    el("p", { class: "line" }, el("span", { class: "score", title: "cosine similarity" }, score(hit.score)), verdict(kinship(query, hit))),
    el("p", { class: "words" }, words(hit.metadata) || short(hit.id)),
    facts(hit),
  );
}

/** @param rank from 1 */
export function tinyCard(query, hit, rank) {
  const kind = kinship(query, hit);
  const label = `Hit ${rank}, score ${score(hit.score)}${kind ? `, ${VERDICTS[kind]}` : ""}`;
  return el(
    "li",
    { class: "card tiny", data: { id: hit.id } },
    el("div", { class: `frame ${kind ?? ""}` }, image(hit, label), itemBadge(hit.width)),
    el("p", { class: "line" }, el("span", { class: "score" }, score(hit.score)), verdict(kind)),
  );
}

/** An item's image as a button that searches for more like it; also for an item without an image, by its vector. */
export function moreLikeThis(item, onPick) {
  const label = `More like this: ${short(item.id, 80)}`;
  const button = el(
    "button",
    { type: "button", class: "again", "aria-label": label },
    el("span", { class: "frame" }, image(item, ""), itemBadge(item.width)),
    el("span", { class: "more" }, "More like this"),
  );
  button.addEventListener("click", () => onPick(item.id));
  return button;
}

export function image(item, alt) {
  if (!item.image) return el("span", { class: "blank" }, "no image");
  const picture = el("img", { alt, decoding: "async" });
  const giveUp = () => picture.replaceWith(el("span", { class: "blank" }, "no preview"));
  const tryPreview = () => {
    picture.addEventListener("error", giveUp, { once: true });
    showImage(picture, previewOf(item.image));
  };
  picture.addEventListener("error", tryPreview, { once: true });
  showImage(picture, item.image);
  return picture;
}

/** The first metadata of an item that are text, as one line. */
export function words(metadata) {
  const texts = Object.entries(metadata).filter(([name, value]) => !HIDDEN.has(name) && typeof value === "string" && value);
  return texts.slice(0, WORDS).map(([, value]) => short(value, 30)).join(" · ");
}

function facts(hit) {
  const entries = Object.entries({ id: hit.id, ...hit.metadata }).slice(0, MAX_ENTRIES);
  return el("dl", { class: "facts" }, ...entries.flatMap(([name, value]) => [el("dt", {}, short(name, 24)), el("dd", {}, short(value))]));
}
