"""The steps of a sign-in with OpenID Connect, each at an instance of choice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

import aiohttp

from tests.chaos.browser import Code
from tests.support.clients import PhoneClient

REDIRECT_URI = "http://127.0.0.1:1/callback"

APP = "shop"

RETRY_TIMEOUT = 50.0
"""Seconds for which a client repeats a request. A confirmed login waits 60 for its browser."""

RETRY_INTERVAL = 0.2

T = TypeVar("T")


class Unanswered(Exception):
    """There is no answer, or its status is 503. Clients repeat the request."""


class SignInRefused(Exception):
    """The broker refuses to continue the sign-in. The person begins again."""


class Reply(NamedTuple):
    status: int
    headers: Any
    text: str

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.text))


def add_app(folder: Path) -> str:
    """Add the app to the records in `folder` by command, and return its secret."""
    command = [sys.executable, "-m", "broker", "app", "add", APP, "--oidc"]
    command += ["--redirect-url", REDIRECT_URI, "--scope", "openid", "--scope", "offline_access"]
    output = subprocess.check_output(command, cwd=folder, text=True)
    return output.rpartition("client_secret: ")[2].strip()


async def repeated(request: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request until it is answered."""
    async with asyncio.timeout(RETRY_TIMEOUT):
        while True:
            try:
                return await request()
            except Unanswered:
                await asyncio.sleep(RETRY_INTERVAL)


@dataclass
class Steps:
    """One sign-in. The steps raise Unanswered and SignInRefused.

    cookie: of its request, as the browser sends it. code: the login's code on the screen.
    unanswered: how many requests had no answer.
    """

    http: aiohttp.ClientSession
    secret: str
    cookie: str = ""
    request: str = ""
    verifier: str = ""
    code: Code | None = None
    unanswered: int = 0

    async def begin(self, url: str) -> Code:
        """Open the sign-in page, and return the code that it shows."""
        self.verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": APP,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": "openid offline_access",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        page = await self._send("GET", f"{url}/oauth/authorize", params=query)
        requests = re.findall(r'request="([\w-]{43})"', page.text)
        if not requests:
            raise Unanswered  # a redirect with `temporarily_unavailable`: the app tries again
        self.request = requests[0]
        cookies = page.headers.getall("Set-Cookie", [])
        self.cookie = "; ".join(cookie.partition(";")[0] for cookie in cookies)
        form = {"client_id": APP, "request": self.request}
        reply = await self._send("POST", f"{url}/oauth/device_authorization", data=form)
        if reply.status != 200:
            raise SignInRefused(reply.text)
        login_id, _, secret = reply.json()["device_code"].partition(".")
        self.code = Code(login_id, reply.json()["user_code"], secret)
        return self.code

    async def confirm(self, url: str, person: str) -> None:
        assert self.code is not None
        async with PhoneClient(url, person) as phone:
            assert (await phone.post("scan", {"scene": self.code.scene})).status == 200
            named = {"login_id": self.code.login_id}
            assert (await phone.post("confirm", named)).status == 200

    async def submit(self, url: str) -> str:
        """Submit the form of the page, and return the authorization code."""
        assert self.code is not None
        form = {
            "request": self.request,
            "login_id": self.code.login_id,
            "secret": self.code.secret,
        }
        headers = {"Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        reply = await self._send("POST", f"{url}/oauth/login", data=form, headers=headers)
        answer = parse_qs(urlsplit(reply.headers.get("Location", "")).query)
        if "code" not in answer:
            raise SignInRefused(f"{reply.status}: {answer}")
        return answer["code"][0]

    async def exchange(self, url: str, code: str) -> dict[str, Any]:
        """Exchange the code, and return the answer, also a refusal."""
        return await self._token(
            url,
            grant_type="authorization_code",
            code=code,
            redirect_uri=REDIRECT_URI,
            code_verifier=self.verifier,
        )

    async def refresh(self, url: str, token: str) -> dict[str, Any]:
        """Use a refresh token, and return the answer, also a refusal."""
        return await self._token(url, grant_type="refresh_token", refresh_token=token)

    async def _token(self, url: str, **form: str) -> dict[str, Any]:
        headers = {"Authorization": aiohttp.encode_basic_auth(APP, self.secret)}
        reply = await self._send("POST", f"{url}/oauth/token", data=form, headers=headers)
        return reply.json()

    async def _send(self, method: str, url: str, **options: Any) -> Reply:
        try:
            async with self.http.request(method, url, allow_redirects=False, **options) as response:
                text = await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.unanswered += 1
            raise Unanswered from None
        if response.status == 503:
            self.unanswered += 1
            raise Unanswered
        return Reply(response.status, response.headers, text)
