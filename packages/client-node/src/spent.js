/** The tokens that have been used. Each one works once. */

import { SpentToken } from "./errors.js";

/** Seconds that a token is remembered after its expiry, which is more than any leeway. */
const MARGIN = 180;

export class SpentTokens {
  #store;
  #clock;

  /** The types in index.d.ts describe the arguments. */
  constructor(store = undefined, { clock = () => Date.now() / 1000 } = {}) {
    this.#store = store ?? memoryStore(clock);
    this.#clock = clock;
  }

  async spend(claims) {
    const seconds = Math.ceil(claims.exp + MARGIN - this.#clock());
    if (!(await this.#store(claims.jti, seconds))) {
      throw new SpentToken("the token has been used before");
    }
  }
}

function memoryStore(clock) {
  const ends = new Map();
  return (jti, seconds) => {
    // From the front: tokens of one broker expire in about the order of their use.
    const now = clock();
    for (const [oldest, end] of ends) {
      if (end > now) break;
      ends.delete(oldest);
    }
    if (ends.has(jti)) return false;
    ends.set(jti, now + seconds);
    return true;
  };
}
