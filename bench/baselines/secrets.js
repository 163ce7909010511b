// Random secrets and their hashes.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

export function hash(secret) {
  return createHash("sha256").update(secret).digest("hex");
}

export function random(bytes) {
  return randomBytes(bytes).toString("base64url");
}

export function matches(one, other) {
  const [first, second] = [Buffer.from(one), Buffer.from(other)];
  return first.length === second.length && timingSafeEqual(first, second);
}
