/** What networks that were trained apart find in each other's galleries, as it was measured for docs/results.md. */

import { getSeparatelyTrained } from "./api.js";
import { byId, el } from "./dom.js";
import { plural, points } from "./format.js";

const ROWS = [
  ["apart", "Trained apart, as they come"],
  ["joined", "Trained apart, then a linear map for each, in closed form"],
  ["together", "Trained together, as sfsc does"],
];

export async function showSeparatelyTrained() {
  const found = await getSeparatelyTrained();
  const most = Math.max(...ROWS.flatMap(([key]) => [found[key].own, found[key].other]));
  const cell = (value) => el("td", { css: { "--share": value / most } }, el("span", {}, points(value)));
  byId("apart").replaceChildren(
    el("caption", {}, `mAP in points on ${found.dataset}; ${plural(found.widths.length, "width")}, mean over ${plural(found.seeds, "training")} of each kind`),
    el("thead", {}, el("tr", {}, el("td", {}), el("th", { scope: "col" }, "own gallery"), el("th", { scope: "col" }, "another's gallery"))),
    el("tbody", {}, ...ROWS.map(([key, name]) => el("tr", {}, el("th", { scope: "row" }, name), cell(found[key].own), cell(found[key].other)))),
  );
  byId("apart-reading").textContent =
    `Networks that were trained apart find nothing in each other's galleries: ${points(found.apart.other)} mAP. ` +
    `A linear map for each, found in closed form after the training, makes ${points(found.joined.other)} of it.`;
}
