/** The events of the broker, which refresh the views. */

import { isSignedIn, request } from "./calls.js";

let watching = null;
export let isWatching = false;
const listeners = new Set();

export function stopWatching() {
  watching?.abort();
  watching = null;
  isWatching = false;
}

export async function watch() {
  stopWatching();
  const own = watching = new AbortController();
  while (watching === own) {
    try {
      const response = await request("GET", "events", undefined, { signal: own.signal });
      isWatching = true;
      announce("lost");
      await readEvents(response.body);
    } catch (error) {
      if (error.name === "AbortError" || !isSignedIn()) return;
    }
    isWatching = false;
    announce("status");
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

async function readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("event: ")) announce(line.slice(7));
  }
}

const announce = (kind) => listeners.forEach((listener) => listener(kind));

const FOLLOW_PAUSE_MS = 1500, FOLLOW_INTERVAL_MS = 15000;

/** Call `refresh` after events of these kinds, and every 15 s, while the view is shown.
 *
 * One call at a time, with a pause after it. The events of a call and its pause cause one more
 * call. A failed call is repeated by the next event or interval. */
export function follow(kinds, isShown, refresh) {
  let isBusy = false, isWanted = false;
  const run = async () => {
    if (!isShown()) return stop();
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    while (isWanted && isShown()) {
      isWanted = false;
      await refresh().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_PAUSE_MS));
    }
    isBusy = false;
  };
  const listener = (kind) => { if (["lost", "status", ...kinds].includes(kind)) run(); };
  const timer = setInterval(run, FOLLOW_INTERVAL_MS);
  const stop = () => { listeners.delete(listener); clearInterval(timer); };
  listeners.add(listener);
}
