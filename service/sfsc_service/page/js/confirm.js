/** A question that has to be answered before something is done. */

import { byId } from "./dom.js";

/** Ask; resolves to whether the visitor agreed. The focus returns to where it was. */
export function confirmed(question, consequence, verb) {
  const dialog = byId("confirm");
  byId("confirm-question").textContent = question;
  byId("confirm-consequence").textContent = consequence;
  byId("confirm-yes").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Bind the buttons of the question once. */
export function bindConfirm() {
  byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
  byId("confirm-no").addEventListener("click", () => byId("confirm").close(""));
}
