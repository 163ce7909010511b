/** Scan login for a site's backend. index.d.ts describes what this package exports. */

export * from "./errors.js";
export { SpentTokens } from "./spent.js";
export { readToken } from "./tokens.js";
export { Verifier } from "./verifier.js";
export { Webhook } from "./webhook.js";
