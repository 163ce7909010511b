"""Every error word of the protocol is answered once, with its status and fields."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.directories.open import OpenDirectory
from broker.errors import Unavailable
from broker.identity.model import Identity, UserProfile
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.chat import admitting, chatting
from tests.support.clients import PhoneClient
from tests.support.error_words import WORDS
from tests.support.files import (
    EICAR,
    HTML,
    PNG,
    file_form,
    running_clamd,
    session_headers,
    upload,
)
from tests.support.oidc_site import a_site, answer_in
from tests.support.waiting import eventually

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN = "x" * 32
Answer = tuple[int, Any]
Case = Callable[["Setup"], Awaitable[Answer]]


class UnavailableDirectory(OpenDirectory):
    """A directory that is unavailable."""

    async def find(self, identity: Identity) -> UserProfile:
        raise Unavailable("the directory does not answer")


class Setup:
    """A broker with two phones and one device's login."""

    def __init__(
        self, start: StartBroker, http: Callable[[str], aiohttp.ClientSession], folder: Path
    ) -> None:
        self.start = start
        self._http = http
        self.folder = folder

    async def set(self, directory: Any = None, **settings: object) -> None:
        self.broker: RunningBroker = await self.start(directory, **settings)
        self.http = self._http(self.broker.url)
        self.login = (await self.post("/oauth/device_authorization", client_id="default"))[1]

    def operator(self) -> aiohttp.ClientSession:
        """Return a client of the admin port with the token."""
        http = self._http(self.broker.admin)
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        return http

    async def post(self, path: str, **form: str) -> Answer:
        async with self.http.post(path, data=form) as response:
            return response.status, await response.json()

    async def poll(self, **changes: str) -> Answer:
        form = {
            "grant_type": GRANT,
            "client_id": "default",
            "device_code": self.login["device_code"],
        }
        return await self.post("/oauth/token", **{**form, **changes})

    async def phone(self, *acts: str, name: str = "alice") -> Answer:
        """Let a phone do `acts` in order, and return the last answer."""
        body = {"scene": self.login.get("user_code"), "login_id": self.login.get("login_id")}
        async with PhoneClient(self.broker.url, name) as phone:
            for act in acts:
                answer = await phone.post(act, body)
        return answer.status, answer.body


async def unregistered(setup: Setup) -> Answer:
    await setup.set(FixedDirectory())
    return await setup.phone("scan", "confirm")


async def unavailable(setup: Setup) -> Answer:
    await setup.set(UnavailableDirectory())
    return await setup.phone("scan", "confirm")


async def rate_limited(setup: Setup) -> Answer:
    await setup.set(begins_per_minute=1)
    return await setup.post("/oauth/device_authorization", client_id="default")


async def expired(setup: Setup) -> Answer:
    await setup.set(login_lifetime=1)
    answers: list[Answer] = []

    async def is_refused() -> bool:
        answers.append(await setup.phone("scan"))
        return answers[-1][0] != 200

    await eventually(is_refused)
    return answers[-1]


async def denied(setup: Setup) -> Answer:
    await setup.set()
    await setup.phone("scan", name="bob")
    return await setup.phone("confirm")


async def scanned_by_another(setup: Setup) -> Answer:
    await setup.set()
    await setup.phone("scan", name="bob")
    return await setup.phone("scan")


async def not_scanned(setup: Setup) -> Answer:
    await setup.set()
    return await setup.phone("confirm")


async def no_such_scene(setup: Setup) -> Answer:
    await setup.set()
    setup.login["user_code"] = "unknown"
    return await setup.phone("scan")


async def no_session(setup: Setup) -> Answer:
    await setup.set()
    async with setup.http.post("/phone/scan", json={}) as response:
        return response.status, await response.json()


async def polled_twice(setup: Setup) -> Answer:
    await setup.set()
    await setup.poll()
    return await setup.poll()


def operated(method: str, path: str, body: object = None) -> Case:
    async def case(setup: Setup) -> Answer:
        await setup.set("sql", admin_token=TOKEN)
        http = setup.operator()
        for _ in range(2):
            async with http.request(method, path, json=body) as response:
                answer = response.status, await response.json()
        return answer

    return case


def linked(verb: str) -> Case:
    """Link an identity to a user, and apply `verb` to it at another user."""

    async def case(setup: Setup) -> Answer:
        await setup.set("sql", admin_token=TOKEN)
        http = setup.operator()
        identity = {"provider": "pretend", "provider_app_id": "", "openid": "alice"}
        for name, act in (("one", "link"), ("two", verb)):
            await http.post("/users", json={"id": name})
            async with http.post(f"/users/{name}/{act}", json=identity) as response:
                answer = response.status, await response.json()
        return answer

    return case


def polled(**changes: str) -> Case:
    async def case(setup: Setup) -> Answer:
        await setup.set()
        return await setup.poll(**changes)

    return case


async def without_openid(setup: Setup) -> Answer:
    await setup.set()
    await setup.phone("scan", "confirm")
    _, token = await setup.poll()
    return await userinfo(setup, token["access_token"])


async def wrong_token(setup: Setup) -> Answer:
    await setup.set()
    return await userinfo(setup, "wrong")


async def userinfo(setup: Setup, token: str) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    async with setup.http.get("/oauth/userinfo", headers=headers) as response:
        return response.status, await response.json()


async def refreshed_with_more(setup: Setup) -> Answer:
    scopes = ["openid", "email", "offline_access"]
    async with a_site(setup.start, setup.folder, scopes=scopes) as (site, browser):
        tokens = await site.signed_in(browser, scope="openid offline_access")
        return await site.refresh(tokens["refresh_token"], scope="openid email")


def redirected(**fields: str) -> Case:
    """Send an authorization request with an error, which the app gets by a redirect."""

    async def case(setup: Setup) -> Answer:
        async with a_site(setup.start, setup.folder) as (site, browser):
            return 303, answer_in(await browser.redirect_of(site.url(**fields)))

    return case


async def closed_room(setup: Setup) -> Answer:
    """An acknowledgement has no status."""
    async with admitting(404) as (_, settings):
        await setup.set(**settings)
        async with chatting(setup.broker.url) as chat:
            return 404, await chat.join()


async def unknown_request_uri(setup: Setup) -> Answer:
    """The error is on a page."""
    request_uri = f"urn:ietf:params:oauth:request_uri:{'r' * 43}"
    async with a_site(setup.start, setup.folder) as (site, browser):
        page = await browser.open(site.url(request_uri=request_uri))
    [(word, description)] = re.findall("<pre>([a-z_]+): (.+)</pre>", page.text)
    return page.status, {"error": word, "error_description": description}


async def no_such_tunnel(setup: Setup) -> Answer:
    await setup.set(admin_token=TOKEN)
    async with setup.http.get(
        f"/tunnels/{'A' * 22}?app=default", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as response:
        return response.status, await response.json()


def uploaded(content: bytes = PNG, *, times: int = 1, **settings: object) -> Case:
    """Upload a file `times` times, over a scanner that knows the EICAR file."""

    async def case(setup: Setup) -> Answer:
        socket = setup.folder / "clamd"
        folder = (setup.folder / "files").as_uri()
        async with running_clamd(socket):
            await setup.set(files_url=folder, clamd=socket, **settings)
            async with PhoneClient(setup.broker.url) as phone:
                for _ in range(times):
                    answer = await upload(setup.http, session_headers(phone), file_form(content))
        return answer.status, answer.body

    return case


async def unknown_file(setup: Setup) -> Answer:
    await setup.set(files_url=(setup.folder / "files").as_uri())
    async with setup.http.get(f"/files/{'x' * 22}?t={'x' * 43}&e=1") as response:
        return response.status, await response.json()


CASES: dict[tuple[str, int], Case] = {
    ("unsupported_media_type", 415): uploaded(HTML),
    ("too_large", 413): uploaded(files_max_bytes=10),
    ("quota_exceeded", 403): uploaded(times=2, files_max_bytes=200, files_quota_bytes=200),
    ("infected", 422): uploaded(PNG + EICAR),
    ("unknown_file", 404): unknown_file,
    ("invalid_request", 400): polled(device_code=""),
    ("unsupported_grant_type", 400): polled(grant_type="password"),
    ("invalid_client", 401): polled(client_id="unknown"),
    ("invalid_session", 401): no_session,
    ("invalid_grant", 400): polled(device_code="wrong.secret"),
    ("authorization_pending", 400): polled(),
    ("slow_down", 400): polled_twice,
    ("access_denied", 403): denied,
    ("expired_token", 400): expired,
    ("unknown_scene", 404): no_such_scene,
    ("already_scanned", 409): scanned_by_another,
    ("invalid_state", 409): not_scanned,
    ("unregistered_user", 403): unregistered,
    ("rate_limited", 429): rate_limited,
    ("temporarily_unavailable", 503): unavailable,
    ("unknown_app", 404): operated("GET", "/apps/unknown"),
    ("unknown_tunnel", 410): no_such_tunnel,
    ("app_exists", 409): operated("POST", "/apps", {"id": "red", "name": "Red"}),
    ("not_found", 404): operated("DELETE", "/logins/unknown"),
    ("conflict", 409): operated("POST", "/keys/rotate", {}),
    ("unknown_user", 404): operated("GET", "/users/unknown"),
    ("user_exists", 409): operated("POST", "/users", {"id": "u-alice"}),
    ("unknown_identity", 404): linked("unlink"),
    ("identity_taken", 409): linked("link"),
    ("invalid_token", 401): wrong_token,
    ("insufficient_scope", 403): without_openid,
    ("invalid_scope", 400): refreshed_with_more,
    ("unsupported_response_type", 303): redirected(response_type="token"),
    ("login_required", 303): redirected(prompt="none"),
    ("request_not_supported", 303): redirected(request="x"),
    ("request_uri_not_supported", 303): redirected(request_uri="https://site.example/r"),
    ("invalid_request_uri", 400): unknown_request_uri,
    ("unknown_room", 404): closed_room,
}


def test_every_error_word_has_a_case() -> None:
    assert {word for word, _ in CASES} == WORDS


@pytest.mark.parametrize(("expected", "case"), CASES.items(), ids=[word for word, _ in CASES])
async def test_error_word_is_answered_with_status(
    expected: tuple[str, int], case: Case, start_broker: StartBroker, tmp_path: Path
) -> None:
    sessions: list[aiohttp.ClientSession] = []

    def http(url: str) -> aiohttp.ClientSession:
        sessions.append(aiohttp.ClientSession(url))
        return sessions[-1]

    try:
        status, body = await case(Setup(start_broker, http, tmp_path))
    finally:
        for session in sessions:
            await session.close()

    assert (body["error"], status) == expected
    assert len(body["error_description"]) > 10
    if status in (429, 503):
        assert body["retry_after"] > 0
