/** Files that come by a button, by drag and drop anywhere on the page, or from the clipboard. */

import { byId } from "./dom.js";

/**
 * @param {{search: (file: File) => void, add: (files: File[]) => void}} take a single image is searched with, unless it is
 *   dropped where images are added
 */
export function takeFiles({ search, add }) {
  onPick(byId("file"), ([file]) => search(file));
  onPick(byId("files"), add);
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    search(file);
  });
  onDrop((files, zone) => (zone === "add" || files.length > 1 ? add(files) : search(files[0])));
}

function onPick(input, take) {
  input.addEventListener("change", () => {
    if (input.files.length) take([...input.files]);
    input.value = "";
  });
}

function onDrop(take) {
  const dragging = (event) => event.dataTransfer?.types.includes("Files");
  const zone = (event) => event.target.closest?.("[data-drop]")?.dataset.drop;
  const mark = (on, over) => {
    document.body.classList.toggle("drag", on);
    for (const one of document.querySelectorAll("[data-drop]")) one.classList.toggle("over", one.dataset.drop === over);
  };
  addEventListener("dragover", (event) => {
    if (!dragging(event)) return;
    event.preventDefault();
    mark(!document.querySelector("dialog[open]"), zone(event));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark(false);
  });
  addEventListener("drop", (event) => {
    if (!dragging(event)) return;
    event.preventDefault();
    mark(false);
    const files = [...event.dataTransfer.files];
    if (files.length && !document.querySelector("dialog[open]")) take(files, zone(event));
  });
}
