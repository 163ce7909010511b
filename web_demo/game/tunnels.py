"""The calls of the broker's tunnel API, with the secret of the app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=8)
PUSHES_MAX = 100  # of one request
KEEP_SECONDS = 60  # a later view replaces an older one

Fields = Mapping[str, Any]


class BrokerFailed(Exception):
    """A call has failed. status: of the answer; 503 for none."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error


class TunnelPush(NamedTuple):
    tunnel_id: str
    data: Fields


class TunnelAPI:
    """The tunnels of one app. Each method raises BrokerFailed.

    broker: its URL.  secret: what `scan-login app rotate-secret` printed.
    """

    def __init__(self, *, broker: str, app: str, secret: str) -> None:
        self._broker = broker.rstrip("/")
        self._headers = {"Authorization": aiohttp.encode_basic_auth(app, secret)}
        self._http: aiohttp.ClientSession | None = None

    async def create(self, fields: Fields) -> str:
        """Create a tunnel for a `subject`, or for a phone's `session`. Returns its URL."""
        created = await self._call("POST", "/tunnels", json=fields)
        url: str = created["url"]
        return url

    async def push(self, pushes: Sequence[TunnelPush]) -> list[str]:
        """Push each message. Returns the state of each tunnel: `open`, `away` or `unknown`."""
        states: list[str] = []
        for start in range(0, len(pushes), PUSHES_MAX):
            part = pushes[start : start + PUSHES_MAX]
            messages = [
                {"to": {"tunnel_ids": [one.tunnel_id]}, "data": one.data, "keep": KEEP_SECONDS}
                for one in part
            ]
            answer = await self._call("POST", "/tunnels/push", json={"messages": messages})
            states += [_state(result) for result in answer["results"]]
        return states

    async def states(self, group: str) -> AsyncIterator[tuple[str, str]]:
        """Yield the id and the state of each tunnel of a group."""
        query = {"group": group}
        while True:
            page = await self._call("GET", "/tunnels", params=query)
            for tunnel in page["tunnels"]:
                yield tunnel["tunnel_id"], tunnel["state"]
            if "next" not in page:
                return
            query = {"group": group, "after": page["next"]}

    async def end(self, tunnel_id: str, code: int, reason: str) -> None:
        path = f"/tunnels/{quote(tunnel_id, safe='')}"
        await self._call("DELETE", path, json={"code": code, "reason": reason})

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        self._http = self._http or aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT)
        try:
            async with self._http.request(method, self._broker + path, **options) as response:
                answer = await response.json() if response.status != 204 else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise BrokerFailed(503, "temporarily_unavailable", f"no answer: {error!r}") from error
        if not isinstance(answer, dict):
            raise BrokerFailed(503, "temporarily_unavailable", "the answer is not a JSON object")
        if response.status >= 300:
            word, description = answer.get("error", ""), answer.get("error_description", "")
            raise BrokerFailed(response.status, word, description)
        return answer


def _state(result: Fields) -> str:
    if result["unknown"]:
        return "unknown"
    return "open" if result["delivered"] else "away"
