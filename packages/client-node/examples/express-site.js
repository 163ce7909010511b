// A site with scan login on Express. Run it with `node express-site.js`.
import { randomBytes } from "node:crypto";
import session from "cookie-session";
import express from "express";
import { ScanLoginError, SpentTokens, Verifier } from "scan-login-client";

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
const site = express();
const secret = randomBytes(32).toString("hex"); // a constant one keeps users signed in
const secure = SITE.startsWith("https:");
site.use(session({ secret, secure, httpOnly: true, sameSite: "lax" }));

site.get("/", (request, response) => {
  const { user } = request.session;
  response.send(user ? ACCOUNT.replace("USER", () => escape(user)) : LOGIN);
});

site.post("/session", express.json({ type: "*/*" }), async (request, response) => {
  if (request.get("Origin") !== SITE) {
    return response.status(403).send(`send the request from ${SITE}`); // another site's page
  }
  try {
    const claims = await verifier.verify(request.body?.access_token);
    await spent.spend(claims);
    request.session.user = claims.sub;
    response.sendStatus(204);
  } catch (error) {
    if (!(error instanceof ScanLoginError)) throw error;
    response.status(error.status).type("text").send(error.message);
  }
});

site.post("/sign-out", (request, response) => {
  request.session = null;
  response.redirect(303, "/");
});

site.listen(8081, "127.0.0.1");
