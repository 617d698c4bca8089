/** One hit as a card, or small as a tile. */

import { badge } from "./badge.js";
import { el } from "./dom.js";
import { score, short } from "./format.js";

const MAX_ENTRIES = 10;
const WORDS = 3;
/** Metadata that no caption shows: it is said by the verdict, or it is bookkeeping. */
const HIDDEN = new Set(["identity", "added_from"]);

/**
 * What is known about a hit and the query: "self", "same", "other", or null where either has no identity.
 * @param query `metadata` and `item` of the query's image
 */
export function kinship(query, hit) {
  if (query.item !== null && query.item === hit.id) return "self";
  const identity = query.metadata?.identity;
  if (identity === undefined || hit.metadata.identity === undefined) return null;
  return identity === hit.metadata.identity ? "same" : "other";
}

const VERDICTS = { self: "the query itself", same: "same identity", other: "different" };

function verdict(kind) {
  return kind && el("span", { class: `verdict ${kind}` }, VERDICTS[kind]);
}

/** @param onPick called with the hit's id, to search with its image */
export function card(query, hit, onPick) {
  return el(
    "li",
    { class: "card", data: { id: hit.id } },
    el("div", { class: "frame" }, imageButton(hit, onPick), badge(hit.width)),
    el("p", { class: "line" }, el("span", { class: "score", title: "cosine similarity" }, score(hit.score)), verdict(kinship(query, hit))),
    el("p", { class: "words" }, words(hit.metadata) || short(hit.id)),
    metadata(hit),
  );
}

/** @param rank from 1 */
export function tinyCard(query, hit, rank) {
  const kind = kinship(query, hit);
  const label = `Hit ${rank}, score ${score(hit.score)}${kind ? `, ${VERDICTS[kind]}` : ""}`;
  return el(
    "li",
    { class: "card tiny", data: { id: hit.id } },
    el("div", { class: `frame ${kind ?? ""}` }, image(hit, label), badge(hit.width)),
    el("p", { class: "line" }, el("span", { class: "score" }, score(hit.score)), verdict(kind)),
  );
}

function imageButton(hit, onPick) {
  if (!hit.image) return image(hit, "");
  const button = el("button", { type: "button", class: "again", title: "Search with this image" }, image(hit, `Search with ${hit.id}`));
  button.addEventListener("click", () => onPick(hit.id));
  return button;
}

function image(hit, alt) {
  if (!hit.image) return el("span", { class: "blank" }, "no image");
  return el("img", { src: hit.image, alt, decoding: "async" });
}

function words(fields) {
  const texts = Object.entries(fields).filter(([name, value]) => !HIDDEN.has(name) && typeof value === "string" && value);
  return texts.slice(0, WORDS).map(([, value]) => short(value, 30)).join(" · ");
}

function metadata(hit) {
  const entries = Object.entries({ id: hit.id, ...hit.metadata }).slice(0, MAX_ENTRIES);
  return el("dl", { class: "facts" }, ...entries.flatMap(([name, value]) => [el("dt", {}, short(name, 24)), el("dd", {}, short(value))]));
}
