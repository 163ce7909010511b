"""A site with scan login on aiohttp. Run it with `python aiohttp_site.py`."""

import secrets
from html import escape

from aiohttp import web
from scan_login_client import AsyncVerifier, ScanLoginError, SpentTokens, read_token

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

verifier, spent, routes = AsyncVerifier(BROKER, APP), SpentTokens(), web.RouteTableDef()
users = {}  # the user of each cookie, in memory


@routes.get("/")
async def home(request):
    user = users.get(request.cookies.get("session"))
    page = ACCOUNT.format(escape(user)) if user else LOGIN
    return web.Response(text=page, content_type="text/html")


@routes.post("/session")
async def sign_in(request):
    if request.headers.get("Origin") != SITE:  # another site signs its visitor in
        raise web.HTTPForbidden(text=f"send the request from {SITE}")
    try:
        claims = await verifier.verify(read_token(await request.read()))
        spent.spend(claims)
    except ScanLoginError as error:
        return web.Response(text=str(error), status=error.status)
    users[key := secrets.token_urlsafe(32)] = claims.sub
    answer = web.Response(status=204)
    answer.set_cookie("session", key, httponly=True, samesite="Lax", secure=SITE[:5] == "https")
    return answer


@routes.post("/sign-out")
async def sign_out(request):
    users.pop(request.cookies.get("session"), None)
    raise web.HTTPSeeOther("/")


if __name__ == "__main__":
    site = web.Application()
    site.add_routes(routes)
    web.run_app(site, host="127.0.0.1", port=8081)
