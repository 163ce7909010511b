/** Verifies tokens with the broker's public keys, which are fetched when they are needed. */

import { BrokerUnavailable, UnknownKey } from "./errors.js";
import { KeyCache, parseKeys } from "./keys.js";
import { checkToken } from "./tokens.js";

const FETCH_TIMEOUT_MS = 5_000;

/** Seconds. Spent tokens are remembered for longer after their expiry. */
const LEEWAY_MAX = 120;

export class Verifier {
  #rules;
  #keysUrl;
  #clock;
  #monotonic;
  #cache = new KeyCache();
  #fetching = null;

  /** The types in index.d.ts describe the options. */
  constructor({
    issuer,
    audience,
    algorithms = ["ES256"],
    leeway = 30,
    keysUrl = undefined,
    clock = () => Date.now() / 1000,
    monotonic = () => performance.now() / 1000,
  }) {
    if (!audience) throw new TypeError("audience is missing: the id of your app at the broker");
    if (!(leeway >= 0 && leeway <= LEEWAY_MAX)) {
      throw new TypeError(`leeway must be 0 to ${LEEWAY_MAX} seconds`);
    }
    const base = checkUrl(issuer);
    this.#rules = { issuer: base, audience, algorithms: [...algorithms], leeway };
    this.#keysUrl = checkUrl(keysUrl ?? `${base}/.well-known/jwks.json`);
    this.#clock = clock;
    this.#monotonic = monotonic;
  }

  async verify(token) {
    await this.#update();
    try {
      return await this.#check(token);
    } catch (error) {
      if (!(error instanceof UnknownKey)) throw error;
    }
    await this.#refetch();
    return this.#checkAgain(token);
  }

  #check(token) {
    return checkToken(token, this.#cache.keys(this.#monotonic()), this.#rules, this.#clock());
  }

  async #checkAgain(token) {
    try {
      return await this.#check(token);
    } catch (error) {
      if (!(error instanceof UnknownKey) || !this.#cache.isFailing) throw error;
      throw new BrokerUnavailable("the broker's keys are not available");
    }
  }

  /** Fetch the keys if they are old. Other calls continue with the old ones. */
  async #update() {
    const now = this.#monotonic();
    if (!this.#cache.isDue(now)) return;
    const mustWait = !this.#fetching || this.#cache.keys(now).size === 0;
    this.#fetching ??= this.#fetch();
    if (mustWait) await this.#fetching;
  }

  /** Fetch the keys for an unknown `kid`, if that is allowed. Another call may be doing so. */
  async #refetch() {
    if (!this.#fetching && this.#cache.allowRefetch(this.#monotonic())) {
      this.#fetching = this.#fetch();
    }
    await this.#fetching;
  }

  /** Fetch the keys. It never rejects. */
  async #fetch() {
    try {
      const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
      const answer = await fetch(this.#keysUrl, { redirect: "error", signal });
      if (!answer.ok) throw new Error(`the broker answered with status ${answer.status}`);
      this.#cache.store(parseKeys(await answer.json()), this.#monotonic());
    } catch {
      this.#cache.fail(this.#monotonic());
    } finally {
      this.#fetching = null;
    }
  }
}

/** Return the URL without a slash at its end. Throws a TypeError. */
function checkUrl(text) {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new TypeError(`${text} is not the URL of a broker; expected https://…`);
  }
  return text.replace(/\/+$/, "");
}
