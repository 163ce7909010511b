"""Engine.IO v4 over our own sockets, in the place of python-engineio's server.

aiohttp reads every request.  A websocket's connection is then taken over: its
transport gets one of our sockets for a protocol, and aiohttp lets go of it.
Messages of one socket are handled in order, by a task that lives only while
there are any.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import engineio
from aiohttp import hdrs, web

from broker.engine import frames
from broker.engine.bodies import whole_body
from broker.engine.doorman import WELCOME, Knock
from broker.engine.frames import Violation
from broker.engine.handshakes import (
    BAD_METHOD,
    BAD_REQUEST,
    BAD_VERSION,
    FORBIDDEN,
    SWITCHING,
    UNKNOWN_SID,
    UNKNOWN_TRANSPORT,
    Asked,
    TakenOver,
    Wrong,
    is_handshake,
    let_go,
    origin_of,
    refusal,
    text,
)
from broker.engine.rates import RateLimiter
from broker.engine.sockets import (
    CLOSE,
    LINGER,
    MESSAGE,
    OPEN,
    PING,
    PONG,
    UPGRADE,
    Packet,
    Phase,
    Polling,
    Socket,
    WebSocket,
)
from broker.engine.turns import STEP, STEP_SECONDS, Turns
from broker.engine.wheel import Wheel
from broker.errors import InvalidRequest, TooManyPackets
from broker.packing import pack

JOIN_WITHIN = 5.0
"""Seconds in which a socket must have joined a namespace, and a probe must be over."""

LOOKS = 20
"""Of a server that ends, at whether its peers have gone."""

TICKS = 25
"""Of the wheel, between two pings."""

INBOX_MAX, INBOX_LOW = 64, 16
"""Messages of one socket that may wait to be handled: then nothing more is read from it,
until so few are left."""


class Came(NamedTuple):
    """What begins a socket's messages: how it was asked for."""

    request: Any


class Gone(NamedTuple):
    """What ends a socket's messages."""

    reason: str


class Inbox(deque[Packet | Came | Gone]):
    """Messages of one socket that wait, and the task that handles them."""

    task: asyncio.Task[None]
    paused = False


class Sessions(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """python-engineio's server with other sockets.

    allow_origin: says whether pages of an Origin may come.  rates: limits what clients
    send.  joined: whether a session is in a namespace, without which it is closed.
    came: called with a new session and its request, in place of the handler `connect`,
    which would cost a task; returns the session's rate limit key.
    """

    def __init__(
        self,
        *,
        allow_origin: Callable[[str], bool],
        rates: RateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(async_mode="aiohttp", **options)
        self.sockets: dict[str, Socket] = {}
        self.longest: int = self.max_http_buffer_size
        self.joined: Callable[[str], bool] = lambda sid: True
        self.came: Callable[[str, Any], str] = self._deliver_came
        self.rates = RateLimiter() if rates is None else rates
        self.turns = Turns()
        self.closing: set[asyncio.Transport] = set()
        self._allow_origin = allow_origin
        self._inboxes: dict[str, Inbox] = {}
        self._paths: set[str] = set()
        self._joining: dict[str, float] = {}  # by when, in the loop's time
        self._wheel: Wheel[Socket] = Wheel(
            tick=self.ping_interval / TICKS,
            horizon=max(self.ping_interval, self.ping_timeout, JOIN_WITHIN),
            ring=self._ring,
        )

    # ---- what python-socketio asks of it ----

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Route every method here, to answer wrong ones.  May be called for several paths."""
        path = f"/{engineio_path.strip('/')}/"
        self._paths.add(path)
        app.router.add_route("*", path, self.handle_request)
        app[WELCOME] = self.welcome

    def transport(self, sid: str) -> str:
        return "polling" if isinstance(self.sockets.get(sid), Polling) else "websocket"

    async def send(self, sid: str, data: Packet) -> None:
        self.send_now([sid], [data])

    async def send_packet(self, sid: str, packet: Any) -> None:
        await self.send(sid, packet.data)

    def send_now(self, sids: Iterable[str], messages: Iterable[Packet]) -> None:
        """Send messages to every session, framed once for all; back-pressure is the drop rule."""
        packets = [one if isinstance(one, bytes) else MESSAGE + one for one in messages]
        framed = b"".join(map(_framed, packets))
        for sid in sids:
            socket = self.sockets.get(sid)
            if isinstance(socket, WebSocket):
                socket.write(framed)
            elif socket is not None:
                for packet in packets:
                    socket.send(packet)

    async def disconnect(self, sid: str) -> None:
        self._close(self.sockets.get(sid), frames.NORMAL, self.reason.SERVER_DISCONNECT)

    async def shutdown(self) -> None:
        sockets = list(self.sockets.values())
        for socket in sockets:
            self._close(socket, frames.GOING_AWAY, self.reason.SERVER_DISCONNECT)
        self._wheel.stop()
        await self._handle_the_rest()
        for _ in range(LOOKS):  # a peer that says goodbye in its turn closes the connection
            if all(socket.gone for socket in sockets):
                break
            await asyncio.sleep(LINGER / LOOKS)
        for socket in sockets:
            socket.abort()
        for transport in [*self.closing]:
            transport.abort()

    async def _handle_the_rest(self) -> None:
        """Let what came before the end be handled, for a while."""
        if tasks := [inbox.task for inbox in self._inboxes.values()]:
            _, late = await asyncio.wait(tasks, timeout=LINGER)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # ---- at the door ----

    def welcome(self, knock: Knock) -> bool:
        """Take in a new session's websocket; whatever else knocks is handled as a request."""
        if (
            knock.path not in self._paths
            or knock.query.get("transport") != "websocket"
            or "sid" in knock.query
            or self._wrong(knock) is not None
            or not is_handshake(knock)
        ):
            return False
        self._greet(knock, self.generate_id(), knock.transport, knock.early)
        return True

    def _greet(self, asked: Asked, sid: str, transport: asyncio.Transport, early: bytes) -> None:
        """Answer the handshake of a new session, which begins with it."""
        greeting = _framed(self._open_packet(sid, upgrades=()))
        self._begin(self._take_over(asked, sid, transport, early, greeting), asked)

    # ---- requests ----

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        headers = self._cors(request)
        wrong = self._wrong(request)
        if wrong is not None:
            return refusal(wrong, headers)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        if request.query.get("transport") == "websocket":
            return await self._websocket(request)
        if request.method == hdrs.METH_POST:
            return await self._post(request, headers)
        return await self._poll(request, headers)

    def _wrong(self, request: Asked) -> Wrong | None:
        """Why the request is refused, or None."""
        query, origin = request.query, origin_of(request.headers)
        if origin and not self._allow_origin(origin):
            return FORBIDDEN
        if request.method == hdrs.METH_OPTIONS:
            return None
        if query.get("EIO") != "4":
            return BAD_VERSION
        if query.get("transport") not in self.transports:
            return UNKNOWN_TRANSPORT
        if "sid" in query and query["sid"] not in self.sockets:
            return UNKNOWN_SID
        wanted = (hdrs.METH_GET,) if "sid" not in query else (hdrs.METH_GET, hdrs.METH_POST)
        return None if request.method in wanted else BAD_METHOD

    def _cors(self, request: web.Request) -> Mapping[str, str]:
        """Lets pages of allowed origins read what polls and posts are answered, without cookies."""
        origin = origin_of(request.headers)
        if not origin or not self._allow_origin(origin):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "content-type",
            hdrs.VARY: hdrs.ORIGIN,
        }

    # ---- websockets ----

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        former = self.sockets.get(request.query.get("sid", ""))
        if not is_handshake(request) or (isinstance(former, Polling) and former.upgrade):
            return refusal(BAD_REQUEST)
        transport = request.transport
        if transport is None:
            return refusal(BAD_REQUEST)  # the client has gone
        early = let_go(request.protocol)
        if former is None:
            self._greet(request, self.generate_id(), transport, early)
            return TakenOver()
        socket = self._take_over(request, former.sid, transport, early)
        if isinstance(former, Polling):
            socket.probes, former.upgrade = True, socket
            socket.address = former.address  # both count as one session
            asyncio.get_running_loop().call_later(JOIN_WITHIN, self._end_probe, socket)
        else:
            socket.close()  # the session has its websocket
        return TakenOver()

    def _take_over(
        self,
        asked: Asked,
        sid: str,
        transport: asyncio.Transport,
        early: bytes,
        greeting: bytes = b"",
    ) -> WebSocket:
        """Answer the handshake, say `greeting`, and have the connection for ourselves.

        early: what the client has sent along behind it.
        """
        accept = frames.accept_key(asked.headers[hdrs.SEC_WEBSOCKET_KEY].encode())
        transport.write(SWITCHING % accept + greeting)
        socket = WebSocket(self, sid, transport)
        if early:
            asyncio.get_running_loop().call_soon(socket.data_received, early)
        return socket

    def _probed(self, socket: WebSocket, packet: Packet) -> None:
        """A packet on a websocket that is being tried for a session that polls."""
        polling = self.sockets.get(socket.sid)
        if not isinstance(polling, Polling):
            socket.close()
        elif packet == PING + "probe":
            socket.send(PONG + "probe")
            polling.changing = True
            polling.release()
        elif packet == UPGRADE:
            self._change_over(polling, socket)
        else:
            self._end_probe(socket)

    def _change_over(self, polling: Polling, socket: WebSocket) -> None:
        """The session goes on over the websocket, with what had yet to be polled."""
        self._wheel.move(polling, socket)
        self.sockets[socket.sid] = socket
        socket.probes = False
        self.rates.move(polling, socket)
        for packet in polling.take():
            socket.send(packet)
        socket.phase = polling.phase
        polling.upgrade = None
        polling.end()

    def _end_probe(self, socket: WebSocket) -> None:
        """The session goes on polling, and may try again."""
        polling = self.sockets.get(socket.sid)
        if socket.probes:
            socket.probes = False
            socket.close()
            if isinstance(polling, Polling) and polling.upgrade is socket:
                polling.upgrade, polling.changing = None, False

    # ---- long polling ----

    async def _poll(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        sid = request.query.get("sid")
        if sid is None:
            polling = Polling(self, self.generate_id())
            polling.send(self._open_packet(polling.sid, upgrades=self._offered()))
            if not self._begin(polling, request):
                raise TooManyPackets
            return text(await polling.poll(), headers)
        socket = self.sockets[sid]
        if not isinstance(socket, Polling):
            return refusal(BAD_REQUEST, headers)
        if socket.polls:  # two at once, or the former was given up without a word
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return refusal(BAD_REQUEST, headers)
        return text(await socket.poll(), headers)

    async def _post(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        socket = self.sockets[request.query["sid"]]
        if not isinstance(socket, Polling) or socket.posts:
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return refusal(BAD_REQUEST, headers)
        socket.posts = True
        try:
            body = await whole_body(request)
            socket.post(body.decode())
        except (Violation, ValueError):
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return refusal(BAD_REQUEST, headers)
        except (web.HTTPRequestEntityTooLarge, InvalidRequest, TooManyPackets):
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            raise
        finally:
            socket.posts = False
        await self._handled(socket.sid)
        return text("ok", headers)

    async def _handled(self, sid: str) -> None:
        """Return once what came before has been handled: nobody posts faster than that."""
        inbox = self._inboxes.get(sid)
        if inbox is not None:
            await asyncio.wait([inbox.task])

    # ---- sessions ----

    def _open_packet(self, sid: str, upgrades: Iterable[str]) -> str:
        handshake = {
            "sid": sid,
            "upgrades": list(upgrades),
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.longest,
        }
        return OPEN + pack(handshake).decode()

    def expect_to_join(self, sid: str) -> None:
        """Close the session unless it has joined a namespace soon."""
        socket = self.sockets.get(sid)
        if socket is not None:
            self._joining[sid] = asyncio.get_running_loop().time() + JOIN_WITHIN
            socket.phase = Phase.JOIN
            self._wheel.put(socket, min(JOIN_WITHIN, self.ping_interval))

    def _offered(self) -> list[str]:
        return ["websocket"] if "websocket" in self.transports and self.allow_upgrades else []

    def _begin(self, socket: Socket, asked: Asked) -> bool:
        """Begin a session; False if a rate limit refuses it."""
        self.sockets[socket.sid] = socket
        self.expect_to_join(socket.sid)
        try:
            key = self.came(socket.sid, asked)
        except Exception:  # whatever it is that came, it is done
            self._close(socket, frames.POLICY, self.reason.TRANSPORT_ERROR)
            return True
        is_counted = self.rates.open(socket, key, polls=isinstance(socket, Polling))
        if not is_counted:
            self._close(socket, frames.POLICY, self.reason.TRANSPORT_ERROR)
        return is_counted

    def _deliver_came(self, sid: str, asked: Any) -> str:
        self._deliver(sid, Came(asked))
        return ""

    def spend(self, socket: Socket, count: int) -> bool:
        """Count received frames; called by sockets."""
        return self.rates.spend(socket, count)

    def receive(self, socket: Socket, packet: Packet) -> None:
        """A packet has come, in order: the sockets' side of this class.  Raises Violation."""
        if isinstance(socket, WebSocket) and socket.probes:
            self._probed(socket, packet)
        elif socket.sid not in self.sockets:
            return  # what a closed socket had sent along with its close
        elif isinstance(packet, bytes):
            self._deliver(socket.sid, packet)
        elif packet[:1] == MESSAGE:
            self._deliver(socket.sid, packet[1:])
        elif packet == PONG:
            if socket.phase is Phase.PONG:
                socket.phase = Phase.ANSWERED
        elif packet == CLOSE:
            self._leave(socket)
        else:
            raise Violation(frames.POLICY, "no packet of Engine.IO")

    def lost(self, socket: Socket, reason: str) -> None:
        """Nothing more will come or go: the sockets' side of this class."""
        if isinstance(socket, WebSocket) and socket.probes:
            self._end_probe(socket)
        elif self.sockets.get(socket.sid) is socket:
            del self.sockets[socket.sid]
            self._joining.pop(socket.sid, None)
            self._wheel.drop(socket)
            self.rates.close(socket, polls=isinstance(socket, Polling))
            self._deliver(socket.sid, Gone(reason))

    def _leave(self, socket: Socket) -> None:
        if isinstance(socket, Polling):
            socket.end()
        else:
            socket.close()
        self.lost(socket, self.reason.CLIENT_DISCONNECT)

    def _close(self, socket: Socket | None, code: int, reason: str) -> None:
        if socket is not None:
            socket.close(code)
            self.lost(socket, reason)

    def _ring(self, socket: Socket) -> None:
        """A socket's turn on the wheel: has it joined, has it answered, send it a ping."""
        if socket.phase is Phase.PONG:
            self._close(socket, frames.NORMAL, self.reason.PING_TIMEOUT)
        elif self._is_late(socket.sid):
            self._close(socket, frames.POLICY, self.reason.SERVER_DISCONNECT)
        elif (rest := self._till_ping(socket.phase)) > 0:
            socket.phase = Phase.PING
            self._wheel.put(socket, rest)
        else:
            socket.phase = Phase.PONG
            socket.send(PING)
            self._wheel.put(socket, self.ping_timeout)

    def _till_ping(self, phase: Phase) -> float:
        """Seconds from the end of a phase to the next ping."""
        interval: float = self.ping_interval
        if phase is Phase.JOIN:
            return max(0.0, interval - JOIN_WITHIN)
        return interval - self.ping_timeout if phase is Phase.ANSWERED else 0.0

    def _is_late(self, sid: str) -> bool:
        """Whether the session has joined nothing in the time that it had for it."""
        due = self._joining.get(sid)
        if due is not None and self.joined(sid):
            del self._joining[sid]
            return False
        # A turn may come a tick too soon, and the next one would be a ping's.
        return due is not None and asyncio.get_running_loop().time() + self._wheel.tick >= due

    # ---- messages, in order ----

    def _deliver(self, sid: str, item: Packet | Came | Gone) -> None:
        inbox = self._inboxes.get(sid)
        if inbox is None:
            inbox = self._inboxes[sid] = Inbox([item])
            inbox.task = asyncio.get_running_loop().create_task(self._handle(sid, inbox))
            return
        inbox.append(item)
        if len(inbox) >= INBOX_MAX and not inbox.paused and sid in self.sockets:
            inbox.paused = True
            self.sockets[sid].pause()

    async def _handle(self, sid: str, inbox: Inbox) -> None:
        handled, began = 0, time.monotonic()
        try:
            while inbox:
                await self._handle_one(sid, inbox.popleft())
                handled += 1
                if inbox and (handled == STEP or time.monotonic() > began + STEP_SECONDS):
                    await self.turns.next()
                    handled, began = 0, time.monotonic()
                if inbox.paused and len(inbox) <= INBOX_LOW and sid in self.sockets:
                    inbox.paused = False
                    self.sockets[sid].resume()
        finally:
            del self._inboxes[sid]

    async def _handle_one(self, sid: str, item: Packet | Came | Gone) -> None:
        try:
            if isinstance(item, Gone):
                await self.handlers["disconnect"](sid, item.reason)
            elif isinstance(item, Came):
                await self.handlers["connect"](sid, item.request)
            else:
                await self.handlers["message"](sid, item)
        except Exception:  # whatever a message trips over, its socket is done
            self._close(self.sockets.get(sid), frames.POLICY, self.reason.TRANSPORT_ERROR)


def _framed(packet: Packet) -> bytes:
    if isinstance(packet, bytes):
        return frames.frame(frames.BINARY, packet)
    return frames.frame(frames.TEXT, packet.encode())
