"""An app server that calls the sessions API."""

from __future__ import annotations

import base64
from typing import NamedTuple

import aiohttp

from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker
from tests.support.clients import Answer, Payload


def basic(app: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{app}:{secret}'.encode()).decode()}"


class Server(NamedTuple):
    """An app server with any credentials.

    shows: the Authorization header.
    """

    http: aiohttp.ClientSession
    shows: str

    async def ask(self, path: str, **body: object) -> Answer:
        headers = {"Authorization": self.shows} if self.shows else {}
        async with self.http.post(path, json=body, headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def open(self, name: str = "alice", **fields: str) -> Payload:
        """Open a session, and return its `id` and `skey`."""
        answer = await self.ask("/sessions", js_code=f"pretend:{name}", **fields)
        assert answer.status == 200
        return {"id": answer.body["id"], "skey": answer.body["skey"]}


async def secret_of(broker: RunningBroker, name: str) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(broker.admin, headers=headers) as http:
        async with http.post("/apps", json={"id": name, "name": name}) as response:
            assert response.status == 201
        async with http.post(f"/apps/{name}/rotate-secret") as response:
            return str((await response.json())["api_secret"])
