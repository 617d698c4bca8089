/** Whether the service can take work, and what went wrong, as sentences. */

import { notReady } from "./api.js";
import { byId, el } from "./dom.js";
import { suggested } from "./filter_hint.js";

const AGAIN_MS = 2000;

/** Resolves once the service is ready; until then says why it is not, and asks again. */
export async function untilReady() {
  for (;;) {
    const reasons = await notReady().catch((problem) => [`${problem.title}`]);
    say(reasons);
    if (!reasons.length) return;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

function say(reasons) {
  byId("status").className = `status ${reasons.length ? "waiting" : "ready"}`;
  byId("status-text").textContent = reasons.length ? "not ready" : "ready";
  const banner = byId("banner");
  const text = `The service is not ready yet: ${reasons.join("; ")}. This page asks again by itself.`;
  if (banner.textContent !== text && reasons.length) banner.textContent = text;
  banner.hidden = !reasons.length;
}

/** Show a problem, or with null that there is none. */
export function showProblem(problem, onRetry) {
  const place = byId("problem");
  place.hidden = problem === null;
  if (problem === null) return place.replaceChildren();
  const retry = el("button", { type: "button", class: "button" }, "Try again");
  retry.addEventListener("click", onRetry);
  const temporary = problem.code === "unreachable" || problem.retryAfter !== null;
  const example = /^filter\b/.test(problem.detail) ? el("p", {}, "A filter that can be read: ", el("code", {}, suggested())) : "";
  return place.replaceChildren(el("p", {}, el("strong", {}, `${problem.title}. `), problem.detail), example, temporary ? retry : "");
}
