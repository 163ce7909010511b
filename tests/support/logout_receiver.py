"""An app's endpoint for back-channel logouts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
from aiohttp import web

from broker.infrastructure.runtime.server import Site, serve_sites


class LogoutReceiver:
    """Records logout tokens, and answers with `statuses` in order; then with 200.

    url: of the endpoint.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.statuses: list[int] = []
        self.location = ""

    async def receive(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.tokens.append(str(form["logout_token"]))
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": self.location} if status == 307 else None
        return web.Response(status=status, headers=headers)

    def claims(self) -> list[dict[str, Any]]:
        return [jwt.decode(one, options={"verify_signature": False}) for one in self.tokens]


EVENT = "http://schemas.openid.net/event/backchannel-logout"


async def verified_logout(issuer: str, token: str, *, audience: str) -> dict[str, Any]:
    """Return the claims of a logout token after the checks of an app (Back-Channel Logout 2.6)."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{issuer}/.well-known/openid-configuration") as response:
            jwks_uri = (await response.json())["jwks_uri"]
        async with http.get(jwks_uri) as response:
            keys = jwt.PyJWKSet.from_dict(await response.json())
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "logout+jwt"
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[header["kid"]],
        algorithms=["RS256", "ES256"],
        issuer=issuer,
        audience=audience,
        options={"require": ["iss", "aud", "iat", "exp", "jti", "events"]},
    )
    assert claims["events"] == {EVENT: {}}
    assert "nonce" not in claims
    return claims


@asynccontextmanager
async def logout_receiver() -> AsyncIterator[LogoutReceiver]:
    receiver, application = LogoutReceiver(), web.Application()
    application.router.add_post("/backchannel", receiver.receive)
    async with serve_sites([Site("app", application, "127.0.0.1", 0, "")]) as urls:
        receiver.url = f"{urls['app']}/backchannel"
        yield receiver
