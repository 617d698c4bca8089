/**
 * The service's HTTP interface, as far as this page needs it. Addresses are relative, so a path prefix works.
 *
 * Every request goes through `send`, and every image that an element loads by itself through `showImage`.
 */

import { anotherKey, currentKey, withKey } from "./key.js";

/** What the service refused, or that it could not be reached: `title` and `detail` are sentences. */
export class Problem extends Error {
  constructor(code, title, detail, retryAfter = null) {
    super(`${title}. ${detail}`);
    Object.assign(this, { code, title, detail, retryAfter });
  }
}

const AGAIN_MS = 250;
const NO_KEY = 401;

/**
 * Once more after a lost connection: browsers drop all of them when any network comes or goes. Every call here may be
 * repeated: searches change nothing, and an item that is put or deleted twice is as if it were once.
 */
async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    return fetch(path, options);
  }
}

async function send(path, options = {}) {
  let response;
  const used = currentKey();
  try {
    response = await reach(path, { ...options, headers: withKey(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unreachable", "The service cannot be reached", "It may have been stopped, or the connection broke.");
  }
  if (!response.ok && response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    const problem = await response.json();
    if (response.status === NO_KEY && (await anotherKey(used, problem.title))) return send(path, options);
    throw new Problem(problem.code, problem.title, problem.detail, Number(response.headers.get("Retry-After")) || null);
  }
  return response;
}

async function usable(path, options) {
  const response = await send(path, options);
  if (response.ok) return response;
  throw new Problem("unknown", "The service gave no usable answer", `${path.split("?")[0]} answered ${response.status}.`);
}

const json = async (path, options) => (await usable(path, options)).json();

const itemPath = (id) => `items/${encodeURIComponent(id)}`;

/** Let an element show an image of the service; a key travels in a header, which an element does not send. */
export function showImage(image, path) {
  if (!currentKey()) return (image.src = path);
  return fetchImage(path).then(
    (blob) => {
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
      image.src = URL.createObjectURL(blob);
    },
    () => image.dispatchEvent(new Event("error")),
  );
}

/** A small JPEG of an item's image, for formats that this browser does not know, such as TIFF and often HEIC. */
export const previewOf = (path) => `${path}?preview=512`;

export const getWidths = () => json("widths");

export const getSamples = async () => (await json("samples")).samples;

/** Why the service is not ready; an empty list when it is. */
export async function notReady() {
  const response = await send("readyz");
  if (response.ok) return [];
  const answer = await response.json().catch(() => ({}));
  return answer.reasons ?? [`it answers ${response.status}`];
}

/** An item and its image, `blob`; null where it has none. */
export async function getItem(id) {
  const path = itemPath(id);
  const item = await json(path);
  return { ...item, blob: item.image && (await fetchImage(item.image)) };
}

export const fetchImage = async (path) => (await usable(path)).blob();

/** A page of the gallery, by id: `items`, and `next`, the cursor of the page after it, or null. */
export const getItems = (cursor, limit, filter, signal) =>
  json(`items?${new URLSearchParams({ limit, ...(cursor && { cursor }), ...(filter && { filter }) })}`, { signal });

/**
 * Put an image into the gallery, in the place of the item that has its id.
 * @param {string|null} width null = as the service chooses
 */
export function putItem(id, image, metadata, width, signal) {
  const query = new URLSearchParams({ metadata: JSON.stringify(metadata), ...(width && { width }) });
  return json(`${itemPath(id)}?${query}`, { method: "PUT", body: image, headers: { "Content-Type": "image/*" }, signal });
}

/** Remove an item; one that has gone already is removed, too. */
export async function deleteItem(id) {
  try {
    await usable(itemPath(id), { method: "DELETE" });
  } catch (error) {
    if (error.code !== "item_not_found") throw error;
  }
}

export const getMetrics = async () => (await usable("metrics")).text();

export const getLoad = () => json("demo/load");

/** Change the rate of the demo's searches; 0 ends them. */
export const setLoad = (perSecond) => json(`demo/load?${new URLSearchParams({ per_s: perSecond })}`, { method: "PUT" });

export const getSeparatelyTrained = () => json("separately_trained.json");

/**
 * Search with the bytes of an image.
 * @param {Blob} image
 * @param {Object} budget one limit, by its name; nothing = the service's own target
 * @param {string|null} filter JSON; null = none
 */
export function searchImage(image, budget, k, filter, signal) {
  const query = new URLSearchParams({ ...budget, k, ...(filter && { filter }) });
  return json(`search?${query}`, { method: "POST", body: image, headers: { "Content-Type": "image/*" }, signal });
}

/** Search with the vector of an item. */
export const searchItem = (id, k, filter, signal) =>
  json(`search?${new URLSearchParams({ id, k, ...(filter && { filter }) })}`, { method: "POST", signal });
