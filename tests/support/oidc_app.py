"""An app that signs users in through the broker, and a directory whose answers a test sets."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import jwt
from yarl import URL

from broker.directories.open import OpenDirectory
from broker.errors import BrokerError
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity, UserProfile
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker
from tests.support.clients import Payload
from tests.support.oidc_browser import ScanBrowser
from tests.support.session_server import basic

CALLBACK = "https://shop.example/callback"

ALL_SCOPES = "openid profile email phone groups offline_access"

FULL_PROFILE = UserProfile(
    subject="u-alice",
    name="Alice",
    nickname="Al",
    preferred_username="alice",
    picture="https://shop.example/alice.png",
    locale="zh-CN",
    zoneinfo="Asia/Shanghai",
    email="alice@shop.example",
    email_verified=True,
    phone_number="+8613800138000",
    phone_number_verified=True,
    groups=("admins", "staff"),
)


class ProfileDirectory(OpenDirectory):
    """A directory with one answer for every identity. refusal: raised instead, if it is set."""

    def __init__(self, profile: UserProfile = FULL_PROFILE) -> None:
        self.profile = profile
        self.refusal: BrokerError | None = None

    async def find(self, identity: Identity) -> UserProfile:
        if self.refusal is not None:
            raise self.refusal
        return self.profile

    def remove_user(self) -> None:
        self.refusal = UnregisteredUser()


class Answer(NamedTuple):
    """A response with its JSON body; {} without one."""

    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def error(self) -> str:
        return str(self.body.get("error", ""))


@dataclass
class RelyingParty:
    """An app, its browser and its server.

    url: of the broker. secret: empty for a public app.
    """

    url: str
    id: str
    secret: str
    http: aiohttp.ClientSession
    admin: Admin

    async def code(self, person: str = "alice", scope: str = ALL_SCOPES, **fields: str) -> str:
        """Sign a new browser in, and return the authorization code."""
        url = self.request_url(scope=scope, **fields)
        async with ScanBrowser(self.url) as browser:
            location = await browser.redirect_after_sign_in(url, person, phone_app=self.id)
        return URL(location).query["code"]

    def request_url(self, **fields: str) -> str:
        """Return the URL of an authorization request."""
        query = {
            "client_id": self.id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": ALL_SCOPES,
            **fields,
        }
        return f"{self.url}/oauth/authorize?{urlencode(query)}"

    async def two_codes(self, **fields: str) -> list[str]:
        """Sign a browser in, and return the codes of that request and of one without a scan.

        The app has `sso`.
        """
        url = self.request_url(**fields)
        async with ScanBrowser(self.url) as browser:
            scanned = await browser.redirect_after_sign_in(url, "alice", phone_app=self.id)
            silent = await browser.redirect_of(url)
        return [URL(one).query["code"] for one in (scanned, silent)]

    async def exchange(self, code: str, **fields: str) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return await self.post("token", **{**form, **fields})

    async def refresh(self, refresh_token: str, **fields: str) -> Answer:
        return await self.post(
            "token", grant_type="refresh_token", refresh_token=refresh_token, **fields
        )

    async def tokens(self, person: str = "alice", **fields: str) -> Payload:
        """Sign in and return the answer of the token endpoint."""
        answer = await self.exchange(await self.code(person, **fields))
        assert answer.status == 200, answer.body
        return answer.body

    async def introspect(self, token: str) -> Payload:
        return (await self.post("introspect", token=token)).body

    async def userinfo(self, token: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.request("GET", "userinfo", headers=headers, **options)

    async def post(self, endpoint: str, **form: str) -> Answer:
        """Send a form to `/oauth/<endpoint>`, authenticated by the secret if the app has one."""
        headers = {"Authorization": basic(self.id, self.secret)} if self.secret else {}
        form = form if self.secret else {"client_id": self.id, **form}
        return await self.request("POST", endpoint, data=form, headers=headers)

    async def request(self, method: str, endpoint: str, **options: Any) -> Answer:
        async with self.http.request(method, f"/oauth/{endpoint}", **options) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else {}
            return Answer(response.status, body, response.headers)


@asynccontextmanager
async def relying_party(
    broker: RunningBroker, app_id: str = "shop", **fields: object
) -> AsyncIterator[RelyingParty]:
    """Add an app with all scopes. The broker needs the admin token of tests."""
    body = {
        "id": app_id,
        "name": app_id.title(),
        "redirect_urls": [CALLBACK],
        "scopes": ALL_SCOPES.split(),
        **fields,
    }
    async with Admin(broker.admin) as admin, aiohttp.ClientSession(broker.url) as http:
        answer = await admin.ask("POST", "/apps", body)
        assert answer.status == 201, answer.body
        secret = ""
        if fields.get("client_type") != "public":
            rotated = await admin.ask("POST", f"/apps/{app_id}/rotate-secret")
            secret = rotated.body["api_secret"]
        yield RelyingParty(broker.url, app_id, secret, http, admin)


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT. Other tests verify signatures."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


class Challenge(NamedTuple):
    """A PKCE verifier and its S256 challenge."""

    verifier: str
    fields: dict[str, str]


def new_challenge() -> Challenge:
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return Challenge(verifier, {"code_challenge": challenge, "code_challenge_method": "S256"})


SETTINGS: Payload = {"admin_token": TOKEN, "begins_per_minute": 1000}
"""Settings of a broker with relying parties."""
