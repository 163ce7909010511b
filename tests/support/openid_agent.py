"""A user agent without scripts, and a relying party, for the conformance tests of providers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import quote_plus

import aiohttp
from joserfc import jwt
from joserfc.jwk import KeySet
from yarl import URL

from tests.support.http_client import HTTPClient

SITE = "https://rp.example"
"""The relying party. The agent never connects to it: it reads what a browser would send."""

CALLBACK, SIGNED_OUT = f"{SITE}/callback", f"{SITE}/signed-out"

REDIRECTS = frozenset({301, 302, 303, 307})


class _Form(HTMLParser):
    """The first form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = values.get("action", "")
        elif tag == "input" and "name" in values:
            self.fields[values["name"]] = values.get("value", "")


class Page(NamedTuple):
    """A page of the provider."""

    status: int
    url: URL
    text: str

    def form(self) -> tuple[URL, dict[str, str]]:
        """Return the target and the fields of the first form."""
        form = _Form()
        form.feed(self.text)
        assert form.action is not None, self.text
        return self.url.join(URL(form.action, encoded=True)), form.fields


class Return(NamedTuple):
    """The browser is sent to the relying party.  method: GET for a redirect, POST for a form."""

    method: str
    url: URL
    fields: dict[str, str]


Answer = Page | Return


class Agent(HTTPClient):
    """Opens pages of the provider, keeps cookies, and follows redirects within the provider."""

    def __init__(self) -> None:
        self.cookies = aiohttp.CookieJar(unsafe=True)
        super().__init__(aiohttp.ClientSession(cookie_jar=self.cookies))

    async def open(
        self,
        url: str | URL,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Open a page, or send a form if there are `fields`."""
        target = URL(str(url), encoded=True)
        while True:
            if str(target).startswith(SITE):
                return Return("GET", target.with_query(None), dict(target.query))
            method = "GET" if fields is None else "POST"
            async with self.http.request(
                method, target, data=fields, headers=headers, allow_redirects=False
            ) as response:
                text = await response.text()
                if response.status not in REDIRECTS:
                    return _answer(Page(response.status, target, text))
                target = target.join(URL(response.headers["Location"], encoded=True))
            fields = headers = None


def _answer(page: Page) -> Answer:
    """Return what the relying party gets if a page submits its form to it."""
    form = _Form()
    form.feed(page.text)
    if form.action is None or not form.action.startswith(SITE):
        return page
    return Return("POST", URL(form.action), form.fields)


class Client(NamedTuple):
    id: str
    secret: str


class OpenIDProvider(Protocol):
    """A provider, and what differs between providers: how clients are added and people sign in."""

    issuer: str

    async def register(self, **fields: object) -> Client:
        """Add a client with `CALLBACK` and `SIGNED_OUT`.

        fields: further metadata with the names of OpenID Connect Dynamic Client Registration.
        """

    async def sign_in(self, agent: Agent, page: Page, person: str) -> Answer:
        """Finish the login page, and the pages for consent after it."""

    async def sign_out(self, agent: Agent, page: Page) -> Answer:
        """Confirm on the page that asks whether to sign out."""

    async def set_clock_ahead(self, seconds: float) -> None:
        """Set by how much the provider's clock is ahead."""


class Tokens(NamedTuple):
    """A token response, and the verified claims of its ID token."""

    response: dict[str, Any]
    claims: dict[str, Any]

    @property
    def access_token(self) -> str:
        return str(self.response["access_token"])

    @property
    def id_token(self) -> str:
        return str(self.response["id_token"])


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str]


class RelyingParty(HTTPClient):
    """A client, its browser and its user.

    mode: the `response_mode` of every request; None for the default.
    """

    def __init__(
        self,
        provider: OpenIDProvider,
        client: Client,
        agent: Agent,
        *,
        person: str,
        mode: str | None = None,
    ) -> None:
        super().__init__(aiohttp.ClientSession())
        self.provider, self.client, self.agent = provider, client, agent
        self._person, self._mode = person, mode
        self.metadata: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        url = f"{self.provider.issuer}/.well-known/openid-configuration"
        self.metadata = (await self.ask("GET", url)).body
        return self

    def request(self, **changes: str | None) -> dict[str, str]:
        """Return an authorization request. None removes a parameter."""
        fields = {
            "client_id": self.client.id,
            "response_type": "code",
            "response_mode": self._mode,
            "scope": "openid",
            "redirect_uri": CALLBACK,
            "state": secrets.token_urlsafe(8),
            "nonce": secrets.token_urlsafe(8),
            **changes,
        }
        return {name: value for name, value in fields.items() if value is not None}

    async def authorize(self, fields: Mapping[str, str], *, post: bool = False) -> Answer:
        """Send the browser to the provider, and return where it is before any login."""
        url = URL(self.metadata["authorization_endpoint"])
        if post:
            return await self.agent.open(url, fields)
        return await self.agent.open(url.with_query(fields))

    async def finish(self, answer: Answer) -> Return:
        """Sign in at the login page."""
        assert isinstance(answer, Page), f"no login page: {answer}"
        after = await self.provider.sign_in(self.agent, answer, self._person)
        assert isinstance(after, Return), after
        return after

    async def code(self, fields: Mapping[str, str], answer: Answer) -> str:
        """Return the code, after a login if there is a login page."""
        after = answer if isinstance(answer, Return) else await self.finish(answer)
        assert "error" not in after.fields, after.fields
        assert (after.method, str(after.url)) == (
            "POST" if self._mode == "form_post" else "GET",
            CALLBACK,
        )
        assert after.fields["state"] == fields["state"]
        assert after.fields.get("iss", self.provider.issuer) == self.provider.issuer
        return after.fields["code"]

    async def sign_in(self, **changes: str | None) -> Tokens:
        """Return the tokens of an authorization request with these changes."""
        fields = self.request(**changes)
        return await self.complete(fields, await self.authorize(fields))

    async def complete(self, fields: Mapping[str, str], answer: Answer) -> Tokens:
        reply = await self.exchange(await self.code(fields, answer))
        return await self.tokens(reply, fields.get("nonce"))

    async def exchange(self, code: str, **changes: str) -> Reply:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return await self.token(**fields, **changes)

    async def token(self, **fields: str) -> Reply:
        """Send a token request with HTTP Basic, or with a `client_secret` in `fields`."""
        # Both parts are form-encoded before the Base64 (RFC 6749, section 2.3.1).
        basic = aiohttp.encode_basic_auth(*map(quote_plus, self.client))
        headers = {} if "client_secret" in fields else {"Authorization": basic}
        url = self.metadata["token_endpoint"]
        return await self.ask("POST", url, data=fields, headers=headers)

    async def userinfo(self, access_token: str) -> Reply:
        return await self.ask(
            "GET",
            self.metadata["userinfo_endpoint"],
            headers={"Authorization": f"Bearer {access_token}"},
        )

    async def ask(self, method: str, url: str, **options: Any) -> Reply:
        async with self.http.request(method, url, **options) as response:
            text = await response.text()
            body = json.loads(text) if "json" in response.content_type else text
            return Reply(response.status, body, response.headers)

    async def tokens(self, reply: Reply, nonce: str | None = None) -> Tokens:
        """Check a token response and return its content."""
        assert reply.status == 200, reply.body
        assert reply.body["token_type"].lower() == "bearer"
        assert "no-store" in reply.headers["Cache-Control"]
        assert reply.body["expires_in"] > 0
        claims = await self.verified(reply.body["id_token"])
        assert claims.get("nonce") == nonce
        assert isinstance(claims["sub"], str)
        assert 0 < len(claims["sub"]) <= 255
        return Tokens(reply.body, claims)

    async def verified(self, text: str, *, typ: str | None = "JWT") -> dict[str, Any]:
        """Return the claims of a token for this client that the provider has signed."""
        keys = await self.ask("GET", self.metadata["jwks_uri"])
        names = self.metadata["id_token_signing_alg_values_supported"]
        token = jwt.decode(text, KeySet.import_key_set(keys.body), algorithms=names)
        assert token.header.get("kid") or len(keys.body["keys"]) == 1
        assert token.header.get("typ", typ) == typ
        essential: jwt.ClaimsOption = {"essential": True}
        jwt.JWTClaimsRegistry(
            leeway=10,
            iss={"essential": True, "value": self.provider.issuer},
            aud={"essential": True, "value": self.client.id},
            iat=essential,
            exp=essential if typ == "JWT" else {},
        ).validate(token.claims)
        return dict(token.claims)


MakeParty = Callable[..., Awaitable[RelyingParty]]
"""Register a relying party with this metadata."""


def is_error(answer: Answer, *words: str) -> bool:
    """Whether the answer is a redirect with one of these errors."""
    return isinstance(answer, Return) and answer.fields.get("error") in words


def is_error_page(answer: Answer) -> bool:
    return isinstance(answer, Page) and answer.status >= 400
