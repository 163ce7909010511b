// A site with scan login on plain http. Run it with `node http-site.js`.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { readToken, ScanLoginError, SpentTokens, Verifier } from "scan-login-client";

const BROKER = "http://127.0.0.1:8000"; // your broker, and the id of your app at it
const APP = "default";
const SITE = "http://127.0.0.1:8081"; // the Origin of this site
const LOGIN = `<!doctype html><meta charset="utf-8"><title>My site</title>
<script src="${BROKER}/scan-login.js" defer></script>
<scan-login broker="${BROKER}" app="${APP}">Sign-in is unavailable.</scan-login>
<script type="module">
  document.querySelector("scan-login").onlogin = async (token) => {
    const answer = await fetch("/session", { method: "POST", body: JSON.stringify(token) });
    if (!answer.ok) throw new Error("POST /session answered with status " + answer.status);
    location.reload();
  };
</script>`;
const ACCOUNT = `<!doctype html><meta charset="utf-8"><title>My site</title><h1>Signed in as USER</h1>
<form method="post" action="/sign-out"><button>Sign out</button></form>`;
const escape = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.codePointAt()};`);

const verifier = new Verifier({ issuer: BROKER, audience: APP });
const spent = new SpentTokens();
const users = new Map(); // the user of each cookie, in memory
const cookie = (request) => /(?:^|; )session=([\w-]+)/.exec(request.headers.cookie)?.[1];
const cookieOptions = `HttpOnly; SameSite=Lax${SITE.startsWith("https:") ? "; Secure" : ""}`;

const routes = {
  "GET /": (request) => {
    const user = users.get(cookie(request));
    return [200, user ? ACCOUNT.replace("USER", () => escape(user)) : LOGIN];
  },
  "POST /session": async (request) => {
    if (request.headers.origin !== SITE) return [403, `send the request from ${SITE}`];
    const claims = await verifier.verify(await readToken(request));
    await spent.spend(claims);
    const key = randomBytes(32).toString("base64url");
    users.set(key, claims.sub);
    return [204, "", { "Set-Cookie": `session=${key}; ${cookieOptions}` }];
  },
  "POST /sign-out": (request) => {
    users.delete(cookie(request));
    return [303, "", { Location: "/" }];
  },
};

createServer(async (request, response) => {
  const answer = routes[`${request.method} ${request.url}`] ?? (() => [404, "not found"]);
  const [status, body, headers] = await Promise.resolve(answer(request)).catch((error) => {
    return error instanceof ScanLoginError ? [error.status, error.message] : [500, "failed"];
  });
  const type = status === 200 ? "text/html; charset=utf-8" : "text/plain; charset=utf-8";
  response.writeHead(status, { "Content-Type": type, ...headers }).end(body);
}).listen(8081, "127.0.0.1");
