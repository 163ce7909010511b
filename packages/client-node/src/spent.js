/** The tokens that have been used. Each one works once. */

import { SpentToken } from "./errors.js";

/** Seconds that a token is remembered after its expiry; twice the default leeway. */
const MARGIN = 60;

export class SpentTokens {
  #store;

  /** The types in index.d.ts describe the arguments. */
  constructor(store = undefined, { clock = () => Date.now() / 1000 } = {}) {
    this.#store = store ?? memoryStore(clock);
  }

  async spend(claims) {
    if (!(await this.#store(claims.jti, claims.exp + MARGIN))) {
      throw new SpentToken("the token has been used before");
    }
  }
}

function memoryStore(clock) {
  const ends = new Map();
  return (jti, endsAt) => {
    // From the front: tokens of one broker expire in about the order of their use.
    for (const [oldest, end] of ends) {
      if (end > clock()) break;
      ends.delete(oldest);
    }
    if (ends.has(jti)) return false;
    ends.set(jti, endsAt);
    return true;
  };
}
