"""A phone over HTTP that retries at another instance if one fails or is unavailable."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Protocol

import aiohttp

from tests.chaos.browser import Code
from tests.chaos.ledger import Ledger
from tests.chaos.world import Instance, World

ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=5)

Payload = dict[str, Any]


class Client(Protocol):
    """A browser. `at` is the instance that it uses now."""

    @property
    def at(self) -> Instance | None: ...


class Phone:
    """The phone of the user of `browser`. It prefers other instances than the browser's."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        world: World,
        ledger: Ledger,
        browser: Client,
        name: str,
    ) -> None:
        self._http = http
        self._world = world
        self._ledger = ledger
        self._browser = browser
        self._name = name
        self._bearer = ""
        self._asked_at = 0.0

    async def confirm_code(self, code: Code, *, delay: float) -> bool:
        """Scan, wait, confirm, and return whether the login is confirmed."""
        scanned = await self._ask("scan", {"scene": code.scene})
        if "error" in scanned:
            self._ledger.add_refusal("scan", scanned["error"])
            return False
        await asyncio.sleep(delay)
        answer = await self._ask("confirm", {"login_id": code.login_id})
        if "error" in answer:
            self._ledger.add_refusal("confirm", answer["error"])
            return False
        self._ledger.set_confirmed(code.login_id, self._asked_at)
        return True

    async def _ask(self, verb: str, body: Payload) -> Payload:
        """Return the answer of any instance. Open a new session if the old one is invalid."""
        while True:
            if not self._bearer:
                await self._open_session()
            answer = await self._post(verb, body)
            if answer.get("error") != "invalid_session":
                return answer
            self._bearer = ""

    async def _open_session(self) -> None:
        body = {"app": "default", "js_code": f"pretend:{self._name}"}
        session = await self._post("session", body)
        self._bearer = f"Bearer {session['id']}.{session['skey']}"

    async def _post(self, verb: str, body: Payload) -> Payload:
        """Return the first answer, of another instance than the browser's if possible."""
        instance = self._world.any(but=self._browser.at)
        while True:
            answer = await self._try(instance, verb, body) if instance else None
            if answer is not None:
                return answer
            await asyncio.sleep(random.uniform(0.2, 1.0))
            instance = self._world.any()

    async def _try(self, instance: Instance, verb: str, body: Payload) -> Payload | None:
        """Return the answer, or None if there is none or its status is 503."""
        headers = {"Authorization": self._bearer} if self._bearer else {}
        self._asked_at = time.monotonic()
        try:
            async with self._http.post(
                f"{instance.url}/phone/{verb}", json=body, headers=headers, timeout=ANSWER_TIMEOUT
            ) as response:
                answer = await response.json()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return None if response.status == 503 else dict(answer)
