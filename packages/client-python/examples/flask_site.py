"""A site with scan login on Flask. Run it with `flask --app flask_site run --port 8081`."""

import secrets
from html import escape

from flask import Flask, abort, redirect, request, session
from scan_login_client import ScanLoginError, SpentTokens, Verifier, read_token

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

verifier, spent, app = Verifier(BROKER, APP), SpentTokens(), Flask(__name__)
app.config["SECRET_KEY"] = secrets.token_hex()  # a constant one keeps users signed in
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
app.config["SESSION_COOKIE_SECURE"] = SITE.startswith("https:")
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024


@app.get("/")
def home():
    return ACCOUNT.format(escape(session["user"])) if "user" in session else LOGIN


@app.post("/session")
def sign_in():
    if request.headers.get("Origin") != SITE:  # another site signs its visitor in
        abort(403, f"send the request from {SITE}")
    try:
        claims = verifier.verify(read_token(request.get_data()))
        spent.spend(claims)
    except ScanLoginError as error:
        return str(error), error.status
    session["user"] = claims.sub
    return "", 204


@app.post("/sign-out")
def sign_out():
    session.clear()
    return redirect("/", 303)
