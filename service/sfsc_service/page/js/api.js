/** The service's HTTP interface, as far as this page needs it. Addresses are relative, so a path prefix works. */

/** What the service refused, or that it could not be reached: `title` and `detail` are sentences. */
export class Problem extends Error {
  constructor(code, title, detail, retryAfter = null) {
    super(`${title}. ${detail}`);
    Object.assign(this, { code, title, detail, retryAfter });
  }
}

const AGAIN_MS = 250;

/** Once more after a lost connection: browsers drop all of them when any network comes or goes, and no call here changes anything. */
async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    return fetch(path, options);
  }
}

async function send(path, options) {
  let response;
  try {
    response = await reach(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unreachable", "The service cannot be reached", "It may have been stopped, or the connection broke.");
  }
  if (!response.ok && response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    const problem = await response.json();
    throw new Problem(problem.code, problem.title, problem.detail, Number(response.headers.get("Retry-After")) || null);
  }
  return response;
}

async function json(path, options) {
  const response = await send(path, options);
  if (response.ok) return response.json();
  throw new Problem("unknown", "The service gave no usable answer", `${path.split("?")[0]} answered ${response.status}.`);
}

export const getWidths = () => json("widths");

export const getSamples = async () => (await json("samples")).samples;

/** Why the service is not ready; an empty list when it is. */
export async function notReady() {
  const response = await send("readyz");
  if (response.ok) return [];
  const answer = await response.json().catch(() => ({}));
  return answer.reasons ?? [`it answers ${response.status}`];
}

/** The bytes and metadata of an image in the gallery. */
export async function getItem(id) {
  const path = `items/${encodeURIComponent(id)}`;
  const [item, blob] = await Promise.all([json(path), fetchImage(`${path}/image`)]);
  return { ...item, blob };
}

export async function fetchImage(path) {
  const response = await send(path);
  if (response.ok) return response.blob();
  throw new Problem("unknown", "The image cannot be read", `${path} answered ${response.status}.`);
}

/**
 * Search with the bytes of an image.
 * @param {Blob} image
 * @param {Object} budget `width`, `latency_ms` or `gflops`; nothing = the service's own target
 */
export function search(image, budget, k, signal) {
  const query = new URLSearchParams({ ...budget, k });
  return json(`search?${query}`, { method: "POST", body: image, headers: { "Content-Type": "image/*" }, signal });
}
