// Signed callbacks (Standard Webhooks) over connections that are kept open.

import { createHmac } from "node:crypto";
import { Agent, request } from "node:http";

const IN_FLIGHT_MAX = 64;
const TIMEOUT_MS = 10_000;

export class Callbacks {
  // secret: whsec_ and a key in base64.
  constructor(url, secret) {
    this.url = new URL(url);
    this.key = Buffer.from(secret.replace("whsec_", ""), "base64");
    this.agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT_MAX });
  }

  // Send a callback. Returns the answer's JSON object, or null. Throws an error for a failure.
  async send(type, { id, app, meta }, seq, more) {
    const data = { app, tunnel_id: id, seq, meta: JSON.parse(meta), ...more };
    const body = JSON.stringify({ type, timestamp: new Date().toISOString(), data });
    const { status, content } = await this.post(`${id}.${seq}`, body);
    if (status === 204) return null;
    if (status !== 200) throw new Error(`status ${status}`);
    return JSON.parse(content);
  }

  post(id, body) {
    const now = Math.floor(Date.now() / 1000);
    const signature = createHmac("sha256", this.key).update(`${id}.${now}.${body}`).digest("base64");
    const headers = {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      "webhook-id": id,
      "webhook-timestamp": now,
      "webhook-signature": `v1,${signature}`,
    };
    const options = { method: "POST", agent: this.agent, timeout: TIMEOUT_MS, headers };
    return new Promise((resolve, reject) => {
      const sent = request(this.url, options, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => {
          resolve({ status: response.statusCode, content: Buffer.concat(chunks) });
        });
        response.on("error", reject);
      });
      sent.on("error", reject);
      sent.on("timeout", () => sent.destroy(new Error("no answer")));
      sent.end(body);
    });
  }
}
