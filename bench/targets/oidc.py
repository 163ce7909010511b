"""OpenID Providers: the broker, and the certified provider of npm."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp

from bench.socketio import ProtocolError
from bench.targets import Command
from bench.targets.broker import BrokerTarget
from bench.targets.peers import PeerTarget
from broker.tokens.keys import KeyRing

REDIRECT_URI = "http://127.0.0.1:1/callback"
SCOPE = "openid profile offline_access"
CLIENT_ID, SECRET = "bench", "a-secret-of-the-benchmark-with-many-characters"

PERSONS = 300
"""Persons of the broker. Each has at most 20 sign-in sessions."""

APP_TIMEOUT = 30.0
"""Seconds until every server knows a new app."""


class IssuedCode(NamedTuple):
    code: str
    verifier: str


class SignInApp(Protocol):
    """The app, and the browsers and phones of its users."""

    async def sign_in(self, number: int) -> IssuedCode:
        """A sign-in of a person until the code. Raises ProtocolError."""

    async def exchange(self, number: int, issued: IssuedCode) -> None:
        """Exchange the code. Raises ProtocolError."""

    async def close(self) -> None: ...


class HTTPApp:
    """The parts that are the same for both providers."""

    authorize_path: str
    token_path: str

    def __init__(self, urls: list[str], secret: str) -> None:
        self._urls = urls
        self._headers = {"Authorization": aiohttp.encode_basic_auth(CLIENT_ID, secret)}
        self._http = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
        )

    async def close(self) -> None:
        await self._http.close()

    def _url(self, number: int) -> str:
        return self._urls[number % len(self._urls)]

    def _request(self, verifier: str) -> dict[str, str]:
        digest = hashlib.sha256(verifier.encode()).digest()
        return {
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": SCOPE,
            "state": "state",
            "nonce": "nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    async def exchange(self, number: int, issued: IssuedCode) -> None:
        form = {
            "grant_type": "authorization_code",
            "code": issued.code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": issued.verifier,
        }
        async with self._http.post(
            self._url(number) + self.token_path, data=form, headers=self._headers
        ) as response:
            answer = await response.json()
        if not {"id_token", "access_token", "refresh_token"} <= answer.keys():
            raise ProtocolError(f"token: {answer}")


def code_in(location: str) -> str:
    query = parse_qs(urlsplit(location).query)
    if "code" not in query:
        raise ProtocolError(f"no code in {location}")
    return query["code"][0]


class BrokerApp(HTTPApp):
    """Sign-ins at the broker, by scan."""

    authorize_path, token_path = "/oauth/authorize", "/oauth/token"

    async def open(self) -> Self:
        await asyncio.gather(*(self._wait_for_app(url) for url in self._urls))
        self._bearers = [await self._session(number) for number in range(PERSONS)]
        self._turns = count()
        return self

    async def _wait_for_app(self, url: str) -> None:
        async with asyncio.timeout(APP_TIMEOUT):
            while True:
                form = {"client_id": CLIENT_ID}
                async with self._http.post(
                    f"{url}/oauth/device_authorization", data=form
                ) as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(0.2)

    async def _session(self, number: int) -> str:
        body = {"app": "default", "js_code": f"pretend:p{number}"}
        async with self._http.post(f"{self._urls[0]}/phone/session", json=body) as response:
            session = await response.json()
        return f"Bearer {session['id']}.{session['skey']}"

    async def sign_in(self, number: int) -> IssuedCode:
        browser, phone = self._url(number), self._url(number + 1)
        verifier = secrets.token_urlsafe(32)
        page, cookie = await self._login_page(browser, verifier)
        [request] = re.findall(r'request="([\w-]{43})"', page)
        begin = {"client_id": CLIENT_ID, "request": request}
        async with self._http.post(f"{browser}/oauth/device_authorization", data=begin) as response:
            login = await response.json()
        login_id, _, secret = login["device_code"].partition(".")
        await self._confirm(phone, login["user_code"], login_id)
        form = {"request": request, "login_id": login_id, "secret": secret}
        headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
        async with self._http.post(
            f"{browser}/oauth/login", data=form, headers=headers, allow_redirects=False
        ) as response:
            return IssuedCode(code_in(response.headers.get("Location", "")), verifier)

    async def _login_page(self, url: str, verifier: str) -> tuple[str, str]:
        async with self._http.get(
            url + self.authorize_path, params=self._request(verifier)
        ) as response:
            cookies = [f"{name}={morsel.value}" for name, morsel in response.cookies.items()]
            return await response.text(), "; ".join(cookies)

    async def _confirm(self, url: str, scene: str, login_id: str) -> None:
        headers = {"Authorization": self._bearers[next(self._turns) % PERSONS]}
        for act, body in (("scan", {"scene": scene}), ("confirm", {"login_id": login_id})):
            async with self._http.post(f"{url}/phone/{act}", json=body, headers=headers) as answer:
                if answer.status != 200:
                    raise ProtocolError(f"{act}: {await answer.text()}")


class ProviderApp(HTTPApp):
    """Sign-ins at oidc-provider, by its form for a name and a password."""

    authorize_path, token_path = "/auth", "/token"

    async def sign_in(self, number: int) -> IssuedCode:
        url, verifier = self._url(number), secrets.token_urlsafe(32)
        cookies: dict[str, str] = {}
        location = await self._step("GET", url + self.authorize_path, cookies, verifier=verifier)
        await self._step("GET", url + location, cookies)
        form = {"prompt": "login", "login": f"p{number}", "password": "any"}
        location = await self._step("POST", url + location, cookies, form=form)
        while not location.startswith(REDIRECT_URI):
            location = await self._step("GET", url + urlsplit(location).path, cookies)
        return IssuedCode(code_in(location), verifier)

    async def _step(
        self,
        method: str,
        url: str,
        cookies: dict[str, str],
        *,
        verifier: str = "",
        form: Mapping[str, str] | None = None,
    ) -> str:
        """Send a request with the browser's cookies and return where it leads to."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        params = self._request(verifier) if verifier else None
        async with self._http.request(
            method, url, params=params, data=form, headers=headers, allow_redirects=False
        ) as response:
            await response.read()
            cookies.update({name: morsel.value for name, morsel in response.cookies.items()})
            if response.status >= 400:
                raise ProtocolError(f"{method} {url}: {response.status}")
            location = response.headers.get("Location", "")
        found = urlsplit(location)
        return location if location.startswith(REDIRECT_URI) else found.path


class BrokerOIDC(BrokerTarget):
    """algorithm: of ID tokens."""

    def __init__(self, name: str, algorithm: str) -> None:
        super().__init__(name, "bench.baselines.ready")
        self._algorithm = algorithm
        self._environment: Mapping[str, str] = {}

    def command(self, *, redis_url: str, folder: Path) -> Command:
        command = super().command(redis_url=redis_url, folder=folder)
        self._environment = command.environment
        self._program_arguments = command.arguments[:-1]
        return command

    async def app(self, urls: list[str]) -> SignInApp:
        """Add the app with the command and return it."""
        options = ["app", "add", CLIENT_ID, "--redirect-url", REDIRECT_URI, "--oidc"]
        options += ["--id-token-alg", self._algorithm]
        for scope in SCOPE.split():
            options += ["--scope", scope]
        process = await asyncio.create_subprocess_exec(
            *self._program_arguments,
            *options,
            env={**self._environment, "PATH": "/usr/bin"},
            stdout=subprocess.PIPE,
        )
        output, _ = await process.communicate()
        secret = output.decode().rpartition("client_secret: ")[2].strip()
        return await BrokerApp(urls, secret).open()


class OIDCProvider(PeerTarget):
    server = "oidc_provider.js"
    packages = ("oidc-provider", "redis")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._jwks = json.dumps({"keys": [KeyRing.new("RS256", 0).present]})

    def environment(self) -> Mapping[str, str]:
        return {"JWKS": self._jwks, "SECRET": SECRET, "REDIRECT_URI": REDIRECT_URI}

    async def app(self, urls: list[str]) -> SignInApp:
        return ProviderApp(urls, SECRET)


RS256 = BrokerOIDC("broker-oidc", "RS256")
ES256 = BrokerOIDC("broker-oidc-es256", "ES256")
PROVIDER = OIDCProvider("oidc-provider")
