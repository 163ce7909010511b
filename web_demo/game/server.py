"""The business server of the game: its handlers, the clock and the pushes.

A view is the whole game as one person may see it. Each act is answered with a view, and a
changed view is pushed, so a client that has missed something needs the last view only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from .callbacks import GROUP, NAME_MAX, GameCallbacks
from .lobby import Lobby, Player
from .match import Pace
from .tunnels import BrokerFailed, TunnelAPI, TunnelPush

TUNNEL_PATH = "/game/tunnel"
CALLBACK_PATH = "/game/callbacks"
REPLACED_CODE = 4100  # the page says that the person plays on another page
PRESENCE_INTERVAL = 2.0
RETRY_DELAY = 1.0
PASSED_ON = (400, 401, 429)  # answers of the broker that concern the phone
OPENING_DELAY = 5.0  # seconds until the broker lists a tunnel whose opening it has announced

log = logging.getLogger(__name__)


class GameOptions(NamedTuple):
    """The app of the game at the broker. secret, webhook_secret: the broker prints both."""

    app: str
    secret: str
    webhook_secret: str
    pace: Pace = Pace()


class Person(NamedTuple):
    """A person who is signed in at the site. name: from the directory; empty for none."""

    subject: str
    name: str


class GameServer:
    """Runs the game of one process. The games are in its memory.

    person_of: returns the person of a page's request; None before the sign-in.
    """

    def __init__(
        self,
        *,
        broker: str,
        options: GameOptions,
        person_of: Callable[[web.Request], Person | None],
    ) -> None:
        self._person_of = person_of
        # Versions grow over a restart too.
        self._lobby = Lobby(options.pace, version=int(time.time() * 1000))
        self._tunnels = TunnelAPI(broker=broker, app=options.app, secret=options.secret)
        self._callbacks = GameCallbacks(
            app=options.app, secret=options.webhook_secret, lobby=self._lobby, end=self._end
        )
        self._is_due = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()

    async def open_tunnel(self, request: web.Request) -> web.Response:
        """Give the URL of a new tunnel to a page with a cookie, or to a phone with a session."""
        owner = self._owner(request)
        if owner is None:
            return _failure(401, "login_required", "sign in before you play")
        try:
            url = await self._tunnels.create(owner)
        except BrokerFailed as failed:
            status = failed.status if failed.status in PASSED_ON else 503
            return _failure(status, failed.error, str(failed))
        return web.json_response({"url": url}, headers={"Cache-Control": "no-store"})

    def _owner(self, request: web.Request) -> Mapping[str, object] | None:
        """Return the fields of a new tunnel that name its person."""
        if is_from_phone(request):
            session = {name: request.headers.get(f"X-WX-{name}", "") for name in ("id", "skey")}
            return {"session": session}
        person = self._person_of(request)
        if person is None:
            return None
        return {"subject": person.subject, "meta": {"name": person.name[:NAME_MAX]}}

    async def receive(self, request: web.Request) -> web.Response:
        """Answer a callback of the broker."""
        body = await request.read()
        status, fields = self._callbacks.receive(body, request.headers, time.monotonic())
        self._is_due.set()
        return web.Response(status=status) if fields is None else _json(status, fields)

    async def running(self, application: web.Application) -> AsyncIterator[None]:
        """Run the clock and the pushes while the application runs."""
        tasks = [asyncio.create_task(run()) for run in (self._keep_time, self._watch_presence)]
        yield
        for task in (*tasks, *self._ending):
            task.cancel()
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)
        await self._tunnels.close()

    async def _keep_time(self) -> None:
        while True:
            await self._wait_until_due()
            try:
                self._lobby.advance(time.monotonic())
                await self._push_changed()
            except BrokerFailed as failed:
                log.warning("push failed: error=%s", failed)
                await self._retry_push()
            except Exception:  # the game continues
                log.exception("push failed")
                await self._retry_push()

    async def _retry_push(self) -> None:
        await asyncio.sleep(RETRY_DELAY)
        self._is_due.set()

    async def _wait_until_due(self) -> None:
        deadline = self._lobby.next_deadline()
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_due.wait()
        self._is_due.clear()

    async def _push_changed(self) -> None:
        """Push the views that have changed. After a failure they are still marked as changed."""
        now = time.monotonic()
        found = (self._lobby.find(subject) for subject in self._lobby.changed)
        players = [(one, one.tunnel_id) for one in found if one is not None]
        pushes = [TunnelPush(id_, self._lobby.view(player, now)) for player, id_ in players]
        changed, self._lobby.changed = self._lobby.changed, set()
        try:
            states = await self._tunnels.push(pushes)
        except Exception:
            self._lobby.changed |= changed
            raise
        for (player, tunnel_id), state in zip(players, states, strict=True):
            self._note(player, tunnel_id, state, now)

    async def _watch_presence(self) -> None:
        """Ask for the states of tunnels, because no callback reports a lost socket."""
        while True:
            await asyncio.sleep(PRESENCE_INTERVAL)
            try:
                await self._note_presence()
            except BrokerFailed as failed:
                log.warning("presence unknown: error=%s", failed)
            except Exception:  # the game continues
                log.exception("presence unknown")

    async def _note_presence(self) -> None:
        if not self._lobby.active():
            return
        asked_at = time.monotonic()
        states = {id_: state async for id_, state in self._tunnels.states(GROUP)}
        for player in self._lobby.active():
            state = states.get(player.tunnel_id, "unknown")
            self._note(player, player.tunnel_id, state, asked_at)

    def _note(self, player: Player, tunnel_id: str, state: str, asked_at: float) -> None:
        """Note the state of a tunnel, unless the person has opened or resumed one since then."""
        is_seated = self._lobby.find(player.subject) is player and player.tunnel_id == tunnel_id
        if not is_seated or player.since + OPENING_DELAY > asked_at:
            return
        now = time.monotonic()
        if state == "unknown":
            self._lobby.detach(player, now)
        else:
            self._lobby.note_presence(player, is_here=state == "open", now=now)
        if self._lobby.changed:
            self._is_due.set()

    def _end(self, tunnel_id: str) -> None:
        task = asyncio.create_task(self._end_replaced(tunnel_id))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_replaced(self, tunnel_id: str) -> None:
        try:
            await self._tunnels.end(tunnel_id, REPLACED_CODE, "replaced")
        except BrokerFailed as failed:  # its acts are refused, so it can stay
            log.warning("tunnel not ended: error=%s", failed)


def is_from_phone(request: web.Request) -> bool:
    """Return whether a request for a tunnel has a phone's session. No page can send its header."""
    return request.path == TUNNEL_PATH and "X-WX-Id" in request.headers


def _json(status: int, fields: Any) -> web.Response:
    return web.Response(status=status, text=json.dumps(fields), content_type="application/json")


def _failure(status: int, error: str, description: str) -> web.Response:
    return _json(status, {"error": error, "error_description": description})
