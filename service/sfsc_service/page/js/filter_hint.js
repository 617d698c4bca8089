/** What the empty filter shows as an example: a field that the images on the page really have. */

import { byId } from "./dom.js";

const PLAIN_NAME = /^[A-Za-z_]\w*$/;
const LONGEST = 40;
const BEFORE = "filter, such as ";

/** @param items hits or items of the gallery; without a plain field among them, the example stays */
export function suggestFilter(items) {
  for (const { metadata } of items) {
    const found = Object.entries(metadata).find(([name, value]) => PLAIN_NAME.test(name) && name !== "added_from" && isShort(value));
    if (!found) continue;
    const hint = `${BEFORE}${JSON.stringify(Object.fromEntries([found]))}`;
    Object.assign(byId("filter"), { placeholder: hint, title: hint });  // a long one is cut off in its box
    return;
  }
}

/** The example that is suggested now. */
export const suggested = () => byId("filter").placeholder.slice(BEFORE.length);

const isShort = (value) => ["string", "number", "boolean"].includes(typeof value) && String(value).length <= LONGEST;
