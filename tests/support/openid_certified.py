"""The npm package oidc-provider, a certified OpenID Provider."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp

from tests.support.environment import ROOT, free_port, miss, need
from tests.support.openid_agent import CALLBACK, SIGNED_OUT, Agent, Answer, Client, Page
from tests.support.waiting import listens, wait_for_start

FOLDER = ROOT / "tests/clients/oidc"


class CertifiedProvider:
    """An `OpenIDProvider`: clients register themselves, and any name may sign in."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    async def register(self, **fields: object) -> Client:
        metadata = {
            "redirect_uris": [CALLBACK],
            "post_logout_redirect_uris": [SIGNED_OUT],
            "grant_types": ["authorization_code", "refresh_token"],
            "require_auth_time": True,
            **fields,
        }
        added = await self._post("/reg", metadata)
        return Client(added["client_id"], added["client_secret"])

    async def sign_in(self, agent: Agent, page: Page, person: str) -> Answer:
        answer: Answer = page
        while isinstance(answer, Page):
            assert answer.status == 200, answer.text
            action, fields = answer.form()
            given = {"login": person, "password": "any"}
            answer = await agent.open(
                action, {name: given.get(name, fields[name]) for name in fields}
            )
        return answer

    async def sign_out(self, agent: Agent, page: Page) -> Answer:
        action, fields = page.form()
        return await agent.open(action, {**fields, "logout": "yes"})

    async def set_clock_ahead(self, seconds: float) -> None:
        await self._post(f"/clock?ahead={seconds}")

    async def _post(self, path: str, body: object = None) -> Any:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as http,
            http.post(f"{self.issuer}{path}", json=body) as response,
        ):
            return await response.json() if response.status != 204 else None


@contextmanager
def running_certified_provider() -> Iterator[CertifiedProvider]:
    if not (FOLDER / "node_modules").exists():
        miss("the OpenID Connect packages are not installed: run make test")
    port = free_port()
    command = [need("node"), str(FOLDER / "provider.mjs"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_start(process, lambda: listens(port))
        yield CertifiedProvider(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
