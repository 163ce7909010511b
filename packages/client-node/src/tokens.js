/** The check of an access token (RFC 9068). */

import { decodeProtectedHeader, jwtVerify } from "jose";
import { InvalidToken, UnknownKey } from "./errors.js";

const TOKEN_MAX_CHARACTERS = 16 * 1024;
const BODY_MAX_BYTES = 64 * 1024;
const REQUIRED_CLAIMS = ["iss", "sub", "aud", "exp", "iat", "jti"];

/** Return `access_token` of a JSON body. index.d.ts describes it. */
export async function readToken(body) {
  const parts = [];
  let size = 0;
  for await (const part of body) {
    size += part.length;
    if (size > BODY_MAX_BYTES) throw new InvalidToken("the body is too large");
    parts.push(Buffer.from(part));
  }
  try {
    const { access_token } = JSON.parse(Buffer.concat(parts));
    return access_token;
  } catch {
    throw new InvalidToken("the body is not a JSON object with an access_token");
  }
}

/**
 * Return the claims of a token. It has no clock and no I/O. Throws InvalidToken, and UnknownKey for an unknown `kid`.
 *
 * keys: the broker's public keys by `kid`. rules: `{issuer, audience, algorithms, leeway}`.
 * now: Unix time in seconds.
 */
export async function checkToken(token, keys, rules, now) {
  if (typeof token !== "string" || token.length > TOKEN_MAX_CHARACTERS) {
    throw new InvalidToken("the token is not a text, or too long");
  }
  try {
    const { payload } = await jwtVerify(token, keyOf(token, keys, rules), {
      algorithms: rules.algorithms,
      issuer: rules.issuer,
      audience: rules.audience,
      typ: "at+jwt", // jose accepts application/at+jwt too (RFC 9068, section 4)
      requiredClaims: REQUIRED_CLAIMS,
      clockTolerance: rules.leeway,
      currentDate: new Date(now * 1000),
    });
    checkClaims(payload, now + rules.leeway);
    return Object.freeze(payload);
  } catch (error) {
    if (error instanceof InvalidToken) throw error;
    throw new InvalidToken(`the token is invalid: ${error.message}`, { cause: error });
  }
}

function keyOf(token, keys, rules) {
  const { alg, kid } = decodeProtectedHeader(token);
  if (typeof kid !== "string") throw new InvalidToken("the token names no key");
  const key = keys.get(kid);
  if (!key) throw new UnknownKey("the broker has not published the key of the token");
  if (key.alg !== alg) throw new InvalidToken("the key of the token is for another algorithm");
  return key;
}

/** Check what jose does not. */
function checkClaims(payload, latest) {
  for (const name of ["sub", "jti"]) {
    if (typeof payload[name] !== "string" || !payload[name]) {
      throw new InvalidToken(`${name} is not a text`);
    }
  }
  if (payload.iat > latest) {
    throw new InvalidToken("iat is in the future; compare the clocks of broker and site");
  }
}
