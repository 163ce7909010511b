// Compiled, not run: the types of the package for Node.
import { ScanLoginError, SpentTokens, Verifier, Webhook, readToken } from "scan-login-client";
import type { Claims, Event } from "scan-login-client";
import { createServer } from "node:http";

const verifier = new Verifier({ issuer: "https://login.example", audience: "shop", leeway: 5 });
const spent = new SpentTokens(async (jti: string, seconds: number) => jti.length < seconds);
const webhook = new Webhook(["whsec_a", "whsec_b"]);

createServer(async (request, response) => {
  const claims: Claims = await verifier.verify(await readToken(request));
  await spent.spend(claims);
  const user: string = claims.sub;
  const nickname: unknown = claims.nickname;
  const event: Event = webhook.parse(request.headers, Buffer.from("{}"));
  if (event.type === "tunnel.message") {
    const seq: number = event.data.seq;
    webhook.remember(event, { reply: [user, nickname, seq] });
  }
  if (event.type === "audit.entry") {
    const [entry] = event.data.entries;
    const seq: number = entry.seq;
    const subject: string | undefined = entry.subject;
    webhook.remember(event, { seq, subject });
  }
  // @ts-expect-error: only an event of a tunnel has it
  event.data.tunnel_id;
  // @ts-expect-error: claims cannot be changed
  claims.sub = "other";
  response.end(webhook.answerTo(event));
}).on("error", (error) => {
  if (error instanceof ScanLoginError) process.exit(error.status);
});

// @ts-expect-error: the audience is required
new Verifier({ issuer: "https://login.example" });
