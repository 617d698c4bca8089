/** What the gallery is made of: the share of each width. */

import { badge, colour } from "./badge.js";
import { byId, el } from "./dom.js";
import { count, percent, plural } from "./format.js";

let shown = null;

export function showComposition(facts) {
  const { items, widths } = facts.answer.gallery;
  if (JSON.stringify(widths) === shown) return;
  shown = JSON.stringify(widths);
  const names = [...new Set([...facts.widths, ...Object.keys(widths)])].sort((a, b) => parseFloat(a) - parseFloat(b));
  const shares = names.map((width) => ({ width, number: widths[width] ?? 0, share: items ? (widths[width] ?? 0) / items : 0 }));
  byId("composition-count").textContent = plural(items, "image");
  byId("composition-bar").hidden = byId("composition-legend").hidden = names.length === 1;
  const bar = byId("composition-bar");
  bar.setAttribute("aria-label", `Share of each width: ${shares.map((one) => `${one.width} ${percent(one.share)}`).join(", ")}`);
  bar.replaceChildren(...shares.filter((one) => one.number).map((one) => el("span", { class: colour(one.width), css: { "--share": one.share } })));
  byId("composition-legend").replaceChildren(
    ...shares.map((one) => el("li", {}, badge(one.width), el("span", {}, count(one.number), el("small", {}, ` ${percent(one.share)}`)))),
  );
}
