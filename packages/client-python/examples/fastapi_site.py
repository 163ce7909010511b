"""A site with scan login on FastAPI. Run it with `uvicorn fastapi_site:app --port 8081`."""

import secrets
from html import escape

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from scan_login_client import AsyncVerifier, ScanLoginError, SpentTokens, read_token
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.sessions import SessionMiddleware

BROKER, APP = "http://127.0.0.1:8000", "default"  # your broker, and the id of your app
SITE = "http://127.0.0.1:8081"  # the Origin of this site
LOGIN = """<!doctype html><meta charset="utf-8"><title>My site</title>
<script src="$broker/scan-login.js" defer></script>
<scan-login broker="$broker" app="$app">Sign-in is unavailable.</scan-login>
<script type="module">
  document.querySelector("scan-login").onlogin = async (token) => {
    const answer = await fetch("/session", { method: "POST", body: JSON.stringify(token) });
    if (!answer.ok) throw new Error("POST /session answered with status " + answer.status);
    location.reload();
  };
</script>""".replace("$broker", BROKER).replace("$app", APP)
ACCOUNT = """<!doctype html><meta charset="utf-8"><title>My site</title><h1>Signed in as {}</h1>
<form method="post" action="/sign-out"><button>Sign out</button></form>"""

verifier, spent, app = AsyncVerifier(BROKER, APP), SpentTokens(), FastAPI()
secret = secrets.token_hex()  # a constant one keeps users signed in
app.add_middleware(SessionMiddleware, secret, https_only=SITE.startswith("https:"))
app.add_middleware(RequestBodyLimitMiddleware, max_body_size=64 * 1024)


@app.get("/")
async def home(request: Request):
    user = request.session.get("user")
    return HTMLResponse(ACCOUNT.format(escape(user)) if user else LOGIN)


@app.post("/session")
async def sign_in(request: Request):
    if request.headers.get("Origin") != SITE:  # another site signs its visitor in
        return PlainTextResponse(f"send the request from {SITE}", 403)
    try:
        claims = await verifier.verify(read_token(await request.body()))
        spent.spend(claims)
    except ScanLoginError as error:
        return PlainTextResponse(str(error), error.status)
    request.session["user"] = claims.sub
    return Response(status_code=204)


@app.post("/sign-out")
async def sign_out(request: Request):
    request.session.clear()
    return RedirectResponse("/", 303)
