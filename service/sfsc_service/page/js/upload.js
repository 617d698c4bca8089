/** Puts files into the gallery, a few at a time. */

import { Problem, putItem } from "./api.js";
import { bytes } from "./format.js";

const AT_A_TIME = 3;
const TRIES = 6;

const pause = (seconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Each file becomes the item of its name.
 * @param {{metadata: Object, width: string|null, limits: Object}} options
 * @param {(file: File, outcome: {stored: Object}|{problem: Problem}) => void} onResult called for every file that was sent
 *   or left out; after an abort for no more
 */
export async function upload(files, options, onResult, signal) {
  const left = [...files];
  const work = async () => {
    while (left.length && !signal.aborted) {
      const file = left.shift();
      const outcome = await put(file, options, signal);
      if (outcome) onResult(file, outcome);
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
}

async function put(file, { metadata, width, limits }, signal) {
  if (file.size > limits.max_image_bytes) {
    return { problem: new Problem("image_too_large", "Too large", `It has ${bytes(file.size)}, and an image may have ${bytes(limits.max_image_bytes)}.`) };
  }
  for (let tried = 1; ; tried += 1) {
    try {
      return { stored: await putItem(file.name, file, metadata, width, signal) };
    } catch (problem) {
      if (signal.aborted) return null;
      if (!(problem instanceof Problem)) throw problem;
      if (problem.retryAfter === null || tried === TRIES) return { problem };
      await pause(problem.retryAfter, signal);
    }
  }
}
