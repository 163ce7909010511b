"""The example site: valid tokens, invalid tokens and sessions."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import jwt
import pytest

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings
from tests.support.bad_tokens import AUDIENCE, ISSUER, Signer, bad_tokens
from tests.support.builders import RunningBroker, StartBroker
from tests.support.client_driver import KeyServer
from tests.support.environment import ROOT, free_port
from tests.support.logins import token_of
from web_demo.sessions import public_id
from web_demo.site import build_site
from web_demo.verify import TokenVerifier


class Demo(NamedTuple):
    broker: RunningBroker
    url: str
    http: aiohttp.ClientSession

    async def sign_in(self, token: object, **headers: str) -> tuple[int, Any]:
        sent = {"Origin": self.url, **headers}
        async with self.http.post("/session", json={"access_token": token}, headers=sent) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def demo(start_broker: StartBroker) -> AsyncIterator[Demo]:
    broker = await start_broker()
    application = build_site(broker_url=broker.url, chat_room="lobby")
    site = Site("site", application, "127.0.0.1", free_port(), "PORT")
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address that is a number
    async with serve_sites([site]) as addresses:
        url = addresses["site"]
        async with aiohttp.ClientSession(url, cookie_jar=jar) as http:
            yield Demo(broker, url, http)


numbers = itertools.count()


def forged(demo: Demo, **changes: Any) -> str:
    """A token like the broker's with `changes`."""
    rings = SigningKeyFile(demo.broker.settings[TokenSettings].key_file).load()
    assert rings is not None
    ring = rings.main
    now = int(time.time())
    claims = {
        "iss": demo.broker.url,
        "sub": "pretend:alice",
        "aud": "default",
        "iat": now,
        "exp": now + 600,
        "jti": str(next(numbers)),
        **changes,
    }
    headers = {"typ": "at+jwt", "kid": ring.present["kid"]}
    return jwt.encode(claims, jwt.PyJWK(ring.present), "ES256", headers=headers)


async def test_token_is_exchanged_for_a_session(demo: Demo) -> None:
    status, answer = await demo.sign_in(await token_of(demo.broker))
    assert (status, answer) == (200, {"next": "/account"})

    cookie = next(cookie for cookie in demo.http.cookie_jar if cookie.key == "session")
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    async with demo.http.get("/account") as page:
        assert "Signed in as" in await page.text()
    async with demo.http.get("/", allow_redirects=False) as page:
        assert (page.status, page.headers["Location"]) == (303, "/account")


async def test_sign_out_ends_the_session(demo: Demo) -> None:
    await demo.sign_in(await token_of(demo.broker))

    async with demo.http.post(
        "/sign-out", headers={"Origin": demo.url}, allow_redirects=False
    ) as page:
        assert page.status == 303
    async with demo.http.get("/account", allow_redirects=False) as page:
        assert page.headers["Location"] == "/"


@pytest.mark.parametrize("end", ["sign-out", "another login"])
async def test_ended_session_is_refused_by_the_server(demo: Demo, end: str) -> None:
    """The old cookie is useless."""
    await demo.sign_in(await token_of(demo.broker))
    kept = {c.key: c.value for c in demo.http.cookie_jar if c.key == "session"}

    if end == "sign-out":
        await demo.http.post("/sign-out", headers={"Origin": demo.url})
    else:
        await demo.sign_in(await token_of(demo.broker))

    async with (
        aiohttp.ClientSession(demo.url, cookies=kept) as thief,
        thief.get("/account", allow_redirects=False) as page,
    ):
        assert page.status == 303


@asynccontextmanager
async def another_browser(demo: Demo, token: str, user_agent: str) -> AsyncIterator[Demo]:
    """A further browser in which the person of `token` is signed in."""
    jar, headers = aiohttp.CookieJar(unsafe=True), {"User-Agent": user_agent}
    async with aiohttp.ClientSession(demo.url, cookie_jar=jar, headers=headers) as http:
        other = demo._replace(http=http)
        assert (await other.sign_in(token))[0] == 200
        yield other


async def is_signed_in(demo: Demo) -> bool:
    async with demo.http.get("/account", allow_redirects=False) as page:
        return page.status == 200


EDGE = "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0"


async def test_account_lists_the_browsers_of_the_person(demo: Demo) -> None:
    await demo.sign_in(forged(demo, name="Alice Smith"))
    async with (
        another_browser(demo, forged(demo), EDGE),
        another_browser(demo, forged(demo, sub="pretend:bob"), "Firefox/140"),
        demo.http.get("/account") as page,
    ):
        text = await page.text()

    assert "Signed in as Alice Smith" in text
    assert "Edge · Windows" in text
    assert "Firefox" not in text
    assert text.count("<li>") == 2


async def test_one_browser_is_signed_out_from_another(demo: Demo) -> None:
    await demo.sign_in(forged(demo))
    async with another_browser(demo, forged(demo), EDGE) as other:
        key = next(one.value for one in other.http.cookie_jar if one.key == "session")

        path = f"/sign-out/{public_id(key)}"
        await demo.http.post(path, headers={"Origin": demo.url})

        assert (await is_signed_in(demo), await is_signed_in(other)) == (True, False)


async def test_other_person_cannot_sign_out_a_browser(demo: Demo) -> None:
    await demo.sign_in(forged(demo))
    key = next(one.value for one in demo.http.cookie_jar if one.key == "session")
    async with another_browser(demo, forged(demo, sub="pretend:bob"), EDGE) as other:
        await other.http.post(f"/sign-out/{public_id(key)}", headers={"Origin": demo.url})

    assert await is_signed_in(demo)


async def test_sign_out_everywhere_ends_all_sessions(demo: Demo) -> None:
    await demo.sign_in(forged(demo))
    async with another_browser(demo, forged(demo), EDGE) as other:
        await demo.http.post("/sign-out/everywhere", headers={"Origin": demo.url})

        assert (await is_signed_in(demo), await is_signed_in(other)) == (False, False)


@pytest.mark.parametrize(("language", "heading"), [("en", "Page not found"), ("zh", "页面不存在")])
async def test_error_is_a_page_for_people(demo: Demo, language: str, heading: str) -> None:
    headers = {"Accept": "text/html,*/*;q=0.8", "Accept-Language": language}
    async with demo.http.get("/nowhere", headers=headers) as page:
        assert (page.status, page.content_type) == (404, "text/html")
        assert heading in await page.text()
    async with demo.http.get("/nowhere") as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")


async def test_token_is_exchanged_once(demo: Demo) -> None:
    token = await token_of(demo.broker)

    assert [(await demo.sign_in(token))[0] for _ in range(2)] == [200, 401]


async def test_each_login_gets_a_new_session_id(demo: Demo) -> None:
    ids = set()
    for _ in range(2):
        await demo.sign_in(await token_of(demo.broker))
        ids.add(next(c.value for c in demo.http.cookie_jar if c.key == "session"))

    assert len(ids) == 2


async def test_valid_token_is_accepted(demo: Demo) -> None:
    """Shows that the tokens of the next tests are refused because of their changes."""
    assert (await demo.sign_in(forged(demo)))[0] == 200


async def test_forged_token_is_refused(demo: Demo) -> None:
    status, answer = await demo.sign_in(forged(demo, aud="another"))

    assert (status, answer["error"]) == (401, "invalid_token")
    async with demo.http.get("/account", allow_redirects=False) as page:
        assert page.status == 303


async def test_bad_tokens_are_refused() -> None:
    """The site has the rules of the client packages."""
    signer = Signer("first", int(time.time()))
    bad = {name: one for name, one in bad_tokens(signer).items() if isinstance(one, str)}
    keys = KeyServer(signer.public)
    async with keys.serving() as url:
        verifier = TokenVerifier(broker=url, app=AUDIENCE, issuer=ISSUER)

        accepted = [name for name, one in bad.items() if await accepts(verifier, one)]

        assert await accepts(verifier, signer.token())
        assert accepted == []


async def accepts(verifier: TokenVerifier, token: str) -> bool:
    try:
        await asyncio.to_thread(verifier.verify, token)
    except jwt.PyJWKClientConnectionError:
        raise
    except jwt.PyJWTError:
        return False
    return True


@pytest.mark.parametrize("token", ["", "x", "a.b.c", 7, None, "é", "\ud800", "x" * 60_000])
async def test_malformed_token_is_refused(demo: Demo, token: object) -> None:
    assert (await demo.sign_in(token))[0] in (400, 401)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_page_of_another_site_cannot_sign_in_or_out(demo: Demo, origin: str) -> None:
    """Else a page could sign its visitor in to the attacker's account."""
    token = await token_of(demo.broker)

    assert (await demo.sign_in(token, Origin=origin))[0] == 403
    async with demo.http.post("/sign-out", headers={"Origin": origin}) as answer:
        assert answer.status == 403


async def test_form_post_of_token_is_refused(demo: Demo) -> None:
    token = await token_of(demo.broker)
    headers = {"Origin": demo.url, "Content-Type": "text/plain"}

    async with demo.http.post(
        "/session", data=f'{{"access_token": "{token}"}}', headers=headers
    ) as answer:
        assert answer.status == 415


async def test_unreachable_broker_is_temporarily_unavailable(demo: Demo) -> None:
    token = forged(demo)
    nowhere = build_site(broker_url=f"http://127.0.0.1:{free_port()}")

    async with (
        serve_sites([Site("site", nowhere, "127.0.0.1", 0, "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["site"]) as http,
        http.post(
            "/session", json={"access_token": token}, headers={"Origin": addresses["site"]}
        ) as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"] == "temporarily_unavailable"


async def test_pages_have_two_languages_and_forbid_frames(demo: Demo) -> None:
    for wanted, title in [("zh-CN", "登录"), ("en", "Sign in")]:
        async with demo.http.get("/", params={"lang": wanted}) as page:
            assert title in await page.text()
            policy = page.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["<script>", '"', "小明"])
async def test_name_is_escaped(demo: Demo, name: str) -> None:
    await demo.sign_in(forged(demo, sub=f"pretend:{name}"))

    async with demo.http.get("/account") as page:
        text = await page.text()
        assert "<script>" not in text
        assert ("小明" in text) == (name == "小明")


SCRIPT = {"X-Requested-With": "fetch"}


async def test_chat_page_gets_the_token_once(demo: Demo) -> None:
    token = await token_of(demo.broker)
    await demo.sign_in(token)

    async with demo.http.get("/chat/token", headers=SCRIPT) as answer:
        assert await answer.json() == {"access_token": token}
        assert answer.headers["Cache-Control"] == "no-store"
    async with demo.http.get("/chat/token", headers=SCRIPT) as answer:
        assert (answer.status, (await answer.json())["error"]) == (401, "login_required")


async def test_chat_token_needs_the_header_of_scripts(demo: Demo) -> None:
    """A link or a page of another origin does not use the token up."""
    await demo.sign_in(await token_of(demo.broker))

    async with demo.http.get("/chat/token") as answer:
        assert answer.status == 403
    async with demo.http.get("/chat/token", headers=SCRIPT) as answer:
        assert answer.status == 200


async def test_chat_token_needs_a_session(demo: Demo) -> None:
    async with demo.http.get("/chat/token", headers=SCRIPT) as answer:
        assert (answer.status, (await answer.json())["error"]) == (401, "login_required")


async def test_chat_page_without_session_shows_the_login(demo: Demo) -> None:
    async with demo.http.get("/chat", allow_redirects=False) as page:
        assert page.status == 200
        assert "<scan-login" in await page.text()


@pytest.mark.parametrize("path", ["/chat", "/chat/token", "/chat/page.js"])
async def test_site_without_a_room_has_no_chat(demo: Demo, path: str) -> None:
    site = build_site(broker_url=demo.broker.url)

    async with (
        serve_sites([Site("site", site, "127.0.0.1", 0, "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["site"]) as http,
        http.get(path, headers=SCRIPT) as answer,
    ):
        assert answer.status == 404


@pytest.mark.parametrize("name", ["chat.js", "chat_room.js"])
def test_page_and_mini_program_have_one_chat_client(name: str) -> None:
    library = ROOT / "mp_stub/miniprogram/scan-login"

    assert (ROOT / "web_demo/chat" / name).samefile(library / name)
