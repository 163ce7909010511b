"""A Django site with scan login. Run it with `python django_site.py runserver --noreload 8081`."""

from django.conf import settings
from django.core.cache import cache
from django.core.management import execute_from_command_line, utils
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html
from django.views.decorators.http import require_POST as post
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
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=utils.get_random_secret_key(),  # a constant one keeps users signed in
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SESSION_COOKIE_SECURE=SITE.startswith("https:"),
)
verifier, spent = Verifier(BROKER, APP), SpentTokens(lambda jti, ttl: cache.add(jti, 1, ttl))


def home(request):
    user = request.session.get("user")
    return HttpResponse(format_html(ACCOUNT, user) if user else LOGIN)


def sign_in(request):
    if request.headers.get("Origin") != SITE:  # another site signs its visitor in
        return HttpResponse(f"send the request from {SITE}", status=403)
    try:
        claims = verifier.verify(read_token(request.body))
        spent.spend(claims)
    except ScanLoginError as error:
        return HttpResponse(str(error), status=error.status)
    request.session["user"] = claims.sub
    return HttpResponse(status=204)


def sign_out(request):
    request.session.flush()
    return HttpResponseRedirect("/")


urlpatterns = [path("", home), path("session", post(sign_in)), path("sign-out", post(sign_out))]
execute_from_command_line()
