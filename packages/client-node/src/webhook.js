/** Verifies webhooks (Standard Webhooks), and recognises repeats. */

import { Webhook as StandardWebhook } from "standardwebhooks";
import { InvalidWebhook } from "./errors.js";

const BODY_MAX_BYTES = 512 * 1024;

/** Answers in memory. */
const REMEMBERED = 10_000;

export class Webhook {
  #keys;
  #answers = new Map();

  /** The types in index.d.ts describe the methods. */
  constructor(secrets) {
    const texts = [secrets].flat();
    if (texts.length === 0 || !texts.every(Boolean)) {
      throw new TypeError("a webhook needs a secret: scan-login app rotate-webhook-secret");
    }
    this.#keys = texts.map((secret) => new StandardWebhook(secret));
  }

  parse(headers, body) {
    if (body.length > BODY_MAX_BYTES) {
      throw new InvalidWebhook(`the body has more than ${BODY_MAX_BYTES} bytes`);
    }
    const entries = headers instanceof Headers ? [...headers] : Object.entries(headers);
    const names = Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), value]));
    const { type, timestamp, data } = this.#verified(names, body) ?? {};
    if (typeof type !== "string" || typeof timestamp !== "string" || !isObject(data)) {
      throw new InvalidWebhook("the body needs type, timestamp and data");
    }
    return Object.freeze({ webhookId: names["webhook-id"], type, timestamp, data });
  }

  answerTo(event) {
    return this.#answers.get(event.webhookId);
  }

  remember(event, answer) {
    this.#answers.set(event.webhookId, answer);
    if (this.#answers.size > REMEMBERED) this.#answers.delete(this.#answers.keys().next().value);
  }

  #verified(headers, body) {
    let problem;
    for (const key of this.#keys) {
      try {
        return key.verify(typeof body === "string" ? body : Buffer.from(body), headers);
      } catch (error) {
        problem = error;
      }
    }
    throw new InvalidWebhook(`the webhook is invalid: ${problem.message}`, { cause: problem });
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
