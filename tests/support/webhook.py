"""A site with a webhook over TLS whose answer a test sets."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from broker.directories.webhook import WebhookDirectory
from broker.policies.countries import Countries
from broker.policies.webhook import WebhookPolicy
from tests.support.builders import Clock
from tests.support.certificate import certificate
from tests.support.environment import free_port
from tests.support.http_site import serving

HOST = "site.example"
SECRET = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeS0="
OTHER_SECRET = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI="

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def found(request: web.Request) -> web.StreamResponse:
    return web.json_response({"subject": "user-7"})


class Site:
    """A webhook.

    questions: headers and fields of each request with a valid signature.
    """

    def __init__(self, secret: str = SECRET) -> None:
        self.answer: Answer = found
        self.questions: list[tuple[dict[str, str], dict[str, Any]]] = []
        self._webhook = Webhook(secret)

    async def hook(self, request: web.Request) -> web.StreamResponse:
        headers = dict(request.headers)
        fields = self._webhook.verify(await request.read(), headers)
        self.questions.append((headers, fields))
        return await self.answer(request)


class Names(AbstractResolver):
    """A resolver with fixed addresses that records the requested names."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)
            for address in self.addresses[host.partition(".")[0]].split()
        ]

    async def close(self) -> None:
        """Do nothing."""


class Served:
    def __init__(self, site: Site, port: int, trust: ssl.SSLContext) -> None:
        self.site = site
        self.port = port
        self.trust = trust

    @asynccontextmanager
    async def directory(self, **changes: Any) -> AsyncIterator[WebhookDirectory]:
        """Open a webhook directory of the site. Keyword arguments replace its options."""
        directory = WebhookDirectory(**{**self._options(), **changes})
        await directory.open()
        yield directory
        await directory.close()

    @asynccontextmanager
    async def policy(self, **changes: Any) -> AsyncIterator[WebhookPolicy]:
        """Open a login policy of the site. Keyword arguments replace its options."""
        options = {**self._options(), "countries": Countries(None), "clock": time.time}
        policy = WebhookPolicy(**{**options, **changes})
        await policy.open()
        yield policy
        await policy.close()

    def _options(self) -> dict[str, Any]:
        return {
            "url": f"https://{HOST}:{self.port}/hook",
            "signing_secrets": [SECRET],
            "allow_private_address": True,
            "clock": Clock(),
            "tls": self.trust,
            "resolver": Names(site="127.0.0.1", other="127.0.0.1"),
        }


@asynccontextmanager
async def serving_site(folder: Path) -> AsyncIterator[Served]:
    site, port = Site(), free_port()
    trust = certificate(folder, HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    application = web.Application()
    application.router.add_post("/hook", site.hook)
    async with serving(application, port, tls=context):
        yield Served(site, port, trust)
