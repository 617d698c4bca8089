/** The key that the service asks for, where it does: kept for this tab until it is closed, and sent as a header. */

import { byId } from "./dom.js";

const PLACE = "sfsc-key";

let asking = null;
let refused = false;

export const currentKey = () => sessionStorage.getItem(PLACE);

/** The headers of a request, with the key where there is one. */
export const withKey = (headers) => (currentKey() ? { ...headers, Authorization: `Bearer ${currentKey()}` } : headers);

/**
 * Another key than the one that was not accepted; requests that need one at the same time share the question.
 * @returns whether there is one; a visitor who gives none is not asked again
 */
export async function anotherKey(used, reason) {
  if (currentKey() !== used) return true;
  if (refused) return false;
  asking ??= ask(reason).finally(() => (asking = null));
  return asking;
}

function ask(reason) {
  const dialog = byId("key");
  byId("key-reason").textContent = reason;
  byId("key-input").value = "";
  byId("key-no").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(keep(dialog.returnValue)), { once: true }));
}

function keep(answer) {
  const key = byId("key-input").value.trim();
  byId("key-input").value = "";
  refused = answer !== "use" || !key;
  if (!refused) sessionStorage.setItem(PLACE, key);
  return !refused;
}
