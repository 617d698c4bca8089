/** How far the service is with embedding narrow items again, while it is at it. */

import { badge } from "./badge.js";
import { byId } from "./dom.js";
import { plural } from "./format.js";

const AGAIN_MS = 2000;
const SAID = {
  healing: " to look at for embedding again at ",
  paused: " to look at, when the service is idle, for embedding again at ",
  failed: " to look at for embedding again, which has failed and is tried again, at ",
};

let timer = null;

/** @param refresh asks the service again; called a while later as long as there is something to tell */
export function showHeal(facts, refresh) {
  const { state, target, unchecked } = facts.answer.heal;
  const line = byId("heal");
  line.hidden = !(state in SAID);
  if (line.hidden) return;
  line.replaceChildren(`${plural(unchecked, "narrow image")}${SAID[state]}`, badge(target), ".");
  clearTimeout(timer);
  timer = setTimeout(refresh, AGAIN_MS);
}
