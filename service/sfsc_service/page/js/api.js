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
  return response.ok ? [] : (await response.json()).reasons;
}

/** The bytes and metadata of a picture in the gallery. */
export async function getItem(id) {
  const path = `items/${encodeURIComponent(id)}`;
  const [item, picture] = await Promise.all([json(path), getPicture(`${path}/image`)]);
  return { ...item, picture };
}

export async function getPicture(path) {
  const response = await send(path);
  if (response.ok) return response.blob();
  throw new Problem("unknown", "The picture cannot be read", `${path} answered ${response.status}.`);
}

/**
 * Search with the bytes of a picture.
 * @param {Blob} picture
 * @param {Object} wish `width`, `latency_ms` or `gflops`; nothing = the service's own target
 */
export function search(picture, wish, k, signal) {
  const query = new URLSearchParams({ ...wish, k });
  return json(`search?${query}`, { method: "POST", body: picture, headers: { "Content-Type": "image/*" }, signal });
}
