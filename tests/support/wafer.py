"""A business server with a Wafer SDK: its calls and its callbacks."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.support.clients import Answer

Fields = dict[str, Any]


def session_call(name: str, **para: object) -> Fields:
    """Return the body of a session call."""
    interface = {"interfaceName": f"qcloud.cam.{name}", "para": para}
    return {"version": 1, "componentName": "MA", "interface": interface}


class SessionServer:
    """The session calls of a business server.

    path: of the calls; another one for each app.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, path: str = "/mina_auth/") -> None:
        self._http = http
        self._url = url + path

    async def post(self, body: bytes | object, **headers: str) -> Answer:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.post(self._url, headers=headers, **sent) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def call(self, name: str, **para: object) -> Fields:
        answer = await self.post(session_call(name, **para))
        assert answer.status == 200, answer
        return dict(answer.body)

    async def open(self, js_code: str = "pretend:alice") -> Fields:
        return await self.call("id_skey", code=js_code)
