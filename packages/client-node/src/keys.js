/** The broker's public keys: how long they are used, and when to fetch them again. */

/** Seconds between two fetches; `Cache-Control` of the broker's key set. */
const KEYS_TTL = 300;

/** Seconds for which keys are used while they cannot be fetched again. */
const STALE_TTL = 24 * 3600;

/** Seconds between two fetches for an unknown `kid`, because an attacker can invent kids. */
const UNKNOWN_KEY_INTERVAL = 30;

/** Seconds after a failed fetch. */
const RETRY_DELAY = 1;

const NO_KEYS = new Map();

/** The keys of a broker. Each method gets the time of a monotonic clock, in seconds. */
export class KeyCache {
  #keys = NO_KEYS;
  #fetchedAt = -Infinity;
  #failedAt = null;
  #refetchedAt = -Infinity;

  /** Whether the last fetch has failed. */
  get isFailing() {
    return this.#failedAt !== null;
  }

  /** Return the keys by `kid`; none if they are too old. */
  keys(now) {
    return now - this.#fetchedAt < STALE_TTL ? this.#keys : NO_KEYS;
  }

  /** Return whether to fetch the keys, for any token. */
  isDue(now) {
    if (this.#failedAt !== null) return now - this.#failedAt >= RETRY_DELAY;
    return now - this.#fetchedAt >= KEYS_TTL;
  }

  /** Return whether to fetch the keys for an unknown `kid`. The caller must then do so. */
  allowRefetch(now) {
    if (this.isFailing || now - this.#refetchedAt < UNKNOWN_KEY_INTERVAL) return false;
    this.#refetchedAt = now;
    return true;
  }

  store(keys, now) {
    this.#keys = keys;
    this.#fetchedAt = now;
    this.#failedAt = null;
  }

  /** Note that a fetch has failed. The stored keys stay. */
  fail(now) {
    this.#failedAt = now;
  }
}

/** Return the keys of a key set (RFC 7517) by `kid`. Throws an Error for anything else. */
export function parseKeys(keySet) {
  if (!Array.isArray(keySet?.keys)) throw new Error("the answer is not a key set");
  const usable = keySet.keys.filter((key) => typeof key?.kid === "string");
  if (usable.length === 0) throw new Error("the key set has no usable key");
  return new Map(usable.map((key) => [key.kid, key]));
}
