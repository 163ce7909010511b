"""Engine.IO v4 over our own sockets, in the place of python-engineio's server.

aiohttp reads every request.  A websocket's connection is then taken over: its
transport gets one of our sockets for a protocol, and aiohttp lets go of it.
Messages of one socket are handled in order, by a task that lives only while
there are any.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import engineio
from aiohttp import hdrs, web

from broker.errors import InvalidRequest
from broker.infrastructure.codec import encode
from broker.infrastructure.transport.engineio.bodies import whole_body
from broker.infrastructure.transport.engineio.errors import (
    BAD_METHOD,
    BAD_REQUEST,
    BAD_VERSION,
    FORBIDDEN,
    UNKNOWN_SID,
    UNKNOWN_TRANSPORT,
    HandshakeRejection,
    rejection_response,
    text_response,
)
from broker.infrastructure.transport.engineio.heartbeat import JOIN_TIMEOUT, TICKS_PER_PING
from broker.infrastructure.transport.engineio.inbox import (
    INBOX_MAX,
    INBOX_RESUME,
    Inbox,
    SessionClosed,
    SessionOpened,
)
from broker.infrastructure.transport.engineio.packets import (
    CLOSE,
    MESSAGE,
    OPEN,
    PING,
    PONG,
    UPGRADE,
    HeartbeatPhase,
    Packet,
)
from broker.infrastructure.transport.engineio.polling import PollingSession
from broker.infrastructure.transport.engineio.sessions import EngineIOSession
from broker.infrastructure.transport.engineio.timer_wheel import TimerWheel
from broker.infrastructure.transport.rate_limit import TooManyPackets, TransportRateLimiter
from broker.infrastructure.transport.turns import STEP, STEP_SECONDS, Turns
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.acceptor import WELCOME, UpgradeRequest
from broker.infrastructure.transport.websocket.connection import CLOSE_TIMEOUT, WebSocketConnection
from broker.infrastructure.transport.websocket.frames import ProtocolViolation
from broker.infrastructure.transport.websocket.handshake import (
    SWITCHING_PROTOCOLS,
    DetachedResponse,
    HTTPRequest,
    detach,
    is_websocket_handshake,
    origin_of,
)

CLOSE_POLLS = 20
"""Of a server that ends, at whether its peers have gone."""


class EngineIOServer(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """python-engineio's server with other sockets.

    is_origin_allowed: says whether pages of an Origin may come.  rates: limits what clients
    send.  joined: whether a session is in a namespace, without which it is closed.
    came: called with a new session and its request, in place of the handler `connect`,
    which would cost a task; returns the session's rate limit key.
    """

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        rates: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(async_mode="aiohttp", **options)
        self.sockets: dict[str, EngineIOSession] = {}
        self.max_message_bytes: int = self.max_http_buffer_size
        self.has_joined: Callable[[str], bool] = lambda sid: True
        self.on_connect: Callable[[str, Any], str] = self._deliver_came
        self.rates = TransportRateLimiter() if rates is None else rates
        self.turns = Turns()
        self.closing: set[asyncio.Transport] = set()
        self._is_origin_allowed = is_origin_allowed
        self._inboxes: dict[str, Inbox] = {}
        self._paths: set[str] = set()
        self._joining: dict[str, float] = {}  # by when, in the loop's time
        self._wheel: TimerWheel[EngineIOSession] = TimerWheel(
            tick=self.ping_interval / TICKS_PER_PING,
            horizon=max(self.ping_interval, self.ping_timeout, JOIN_TIMEOUT),
            on_timeout=self._on_timeout,
        )

    # ---- what python-socketio asks of it ----

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Route every method here, to answer wrong ones.  May be called for several paths."""
        path = f"/{engineio_path.strip('/')}/"
        self._paths.add(path)
        app.router.add_route("*", path, self.handle_request)
        app[WELCOME] = self.accept_upgrade

    def transport(self, sid: str) -> str:
        return "polling" if isinstance(self.sockets.get(sid), PollingSession) else "websocket"

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
            if isinstance(socket, WebSocketConnection):
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
        for _ in range(CLOSE_POLLS):  # a peer that says goodbye in its turn closes the connection
            if all(socket.is_closed for socket in sockets):
                break
            await asyncio.sleep(CLOSE_TIMEOUT / CLOSE_POLLS)
        for socket in sockets:
            socket.abort()
        for transport in [*self.closing]:
            transport.abort()

    async def _handle_the_rest(self) -> None:
        """Let what came before the end be handled, for a while."""
        if tasks := [inbox.task for inbox in self._inboxes.values()]:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # ---- at the door ----

    def accept_upgrade(self, knock: UpgradeRequest) -> bool:
        """Take in a new session's websocket; whatever else knocks is handled as a request."""
        if (
            knock.path not in self._paths
            or knock.query.get("transport") != "websocket"
            or "sid" in knock.query
            or self._rejection(knock) is not None
            or not is_websocket_handshake(knock)
        ):
            return False
        self._accept(knock, self.generate_id(), knock.transport, knock.early_data)
        return True

    def _accept(
        self, asked: HTTPRequest, sid: str, transport: asyncio.Transport, early: bytes
    ) -> None:
        """Answer the handshake of a new session, which begins with it."""
        greeting = _framed(self._open_packet(sid, upgrades=()))
        self._begin(self._switch_protocols(asked, sid, transport, early, greeting), asked)

    # ---- requests ----

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        headers = self._cors(request)
        wrong = self._rejection(request)
        if wrong is not None:
            return rejection_response(wrong, headers)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        if request.query.get("transport") == "websocket":
            return await self._websocket(request)
        if request.method == hdrs.METH_POST:
            return await self._post(request, headers)
        return await self._poll(request, headers)

    def _rejection(self, request: HTTPRequest) -> HandshakeRejection | None:
        """Why the request is refused, or None."""
        query, origin = request.query, origin_of(request.headers)
        if origin and not self._is_origin_allowed(origin):
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
        if not origin or not self._is_origin_allowed(origin):
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
        if not is_websocket_handshake(request) or (
            isinstance(former, PollingSession) and former.upgrade
        ):
            return rejection_response(BAD_REQUEST)
        transport = request.transport
        if transport is None:
            return rejection_response(BAD_REQUEST)  # the client has gone
        early = detach(request.protocol)
        if former is None:
            self._accept(request, self.generate_id(), transport, early)
            return DetachedResponse()
        socket = self._switch_protocols(request, former.sid, transport, early)
        if isinstance(former, PollingSession):
            socket.is_probe, former.upgrade = True, socket
            socket.address = former.address  # both count as one session
            asyncio.get_running_loop().call_later(JOIN_TIMEOUT, self._end_probe, socket)
        else:
            socket.close()  # the session has its websocket
        return DetachedResponse()

    def _switch_protocols(
        self,
        asked: HTTPRequest,
        sid: str,
        transport: asyncio.Transport,
        early: bytes,
        greeting: bytes = b"",
    ) -> WebSocketConnection:
        """Answer the handshake, say `greeting`, and have the connection for ourselves.

        early: what the client has sent along behind it.
        """
        accept = frames.accept_key(asked.headers[hdrs.SEC_WEBSOCKET_KEY].encode())
        transport.write(SWITCHING_PROTOCOLS % accept + greeting)
        socket = WebSocketConnection(self, sid, transport)
        if early:
            asyncio.get_running_loop().call_soon(socket.data_received, early)
        return socket

    def _on_probe_packet(self, socket: WebSocketConnection, packet: Packet) -> None:
        """A packet on a websocket that is being tried for a session that polls."""
        polling = self.sockets.get(socket.sid)
        if not isinstance(polling, PollingSession):
            socket.close()
        elif packet == PING + "probe":
            socket.send(PONG + "probe")
            polling.is_upgrading = True
            polling.answer_poll()
        elif packet == UPGRADE:
            self._complete_upgrade(polling, socket)
        else:
            self._end_probe(socket)

    def _complete_upgrade(self, polling: PollingSession, socket: WebSocketConnection) -> None:
        """The session goes on over the websocket, with what had yet to be polled."""
        self._wheel.transfer(polling, socket)
        self.sockets[socket.sid] = socket
        socket.is_probe = False
        self.rates.move(polling, socket)
        for packet in polling.pop_all():
            socket.send(packet)
        socket.phase = polling.phase
        polling.upgrade = None
        polling.end()

    def _end_probe(self, socket: WebSocketConnection) -> None:
        """The session goes on polling, and may try again."""
        polling = self.sockets.get(socket.sid)
        if socket.is_probe:
            socket.is_probe = False
            socket.close()
            if isinstance(polling, PollingSession) and polling.upgrade is socket:
                polling.upgrade, polling.is_upgrading = None, False

    # ---- long polling ----

    async def _poll(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        sid = request.query.get("sid")
        if sid is None:
            polling = PollingSession(self, self.generate_id())
            polling.send(self._open_packet(polling.sid, upgrades=self._offered()))
            if not self._begin(polling, request):
                raise TooManyPackets
            return text_response(await polling.poll(), headers)
        socket = self.sockets[sid]
        if not isinstance(socket, PollingSession):
            return rejection_response(BAD_REQUEST, headers)
        if socket.has_pending_poll:  # two at once, or the former was given up without a word
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return rejection_response(BAD_REQUEST, headers)
        return text_response(await socket.poll(), headers)

    async def _post(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        socket = self.sockets[request.query["sid"]]
        if not isinstance(socket, PollingSession) or socket.is_posting:
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return rejection_response(BAD_REQUEST, headers)
        socket.is_posting = True
        try:
            body = await whole_body(request)
            socket.post(body.decode())
        except (ProtocolViolation, ValueError):
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            return rejection_response(BAD_REQUEST, headers)
        except (web.HTTPRequestEntityTooLarge, InvalidRequest, TooManyPackets):
            self._close(socket, frames.NORMAL, self.reason.TRANSPORT_ERROR)
            raise
        finally:
            socket.is_posting = False
        await self._handled(socket.sid)
        return text_response("ok", headers)

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
            "maxPayload": self.max_message_bytes,
        }
        return OPEN + encode(handshake).decode()

    def start_join_timer(self, sid: str) -> None:
        """Close the session unless it has joined a namespace soon."""
        socket = self.sockets.get(sid)
        if socket is not None:
            self._joining[sid] = asyncio.get_running_loop().time() + JOIN_TIMEOUT
            socket.phase = HeartbeatPhase.JOIN
            self._wheel.schedule(socket, min(JOIN_TIMEOUT, self.ping_interval))

    def _offered(self) -> list[str]:
        return ["websocket"] if "websocket" in self.transports and self.allow_upgrades else []

    def _begin(self, socket: EngineIOSession, asked: HTTPRequest) -> bool:
        """Begin a session; False if a rate limit refuses it."""
        self.sockets[socket.sid] = socket
        self.start_join_timer(socket.sid)
        try:
            key = self.on_connect(socket.sid, asked)
        except Exception:  # whatever it is that came, it is done
            self._close(socket, frames.POLICY, self.reason.TRANSPORT_ERROR)
            return True
        is_counted = self.rates.open(socket, key, polls=isinstance(socket, PollingSession))
        if not is_counted:
            self._close(socket, frames.POLICY, self.reason.TRANSPORT_ERROR)
        return is_counted

    def _deliver_came(self, sid: str, asked: Any) -> str:
        self._enqueue(sid, SessionOpened(asked))
        return ""

    def spend(self, socket: EngineIOSession, count: int) -> bool:
        """Count received frames; called by sockets."""
        return self.rates.spend(socket, count)

    def on_packet(self, socket: EngineIOSession, packet: Packet) -> None:
        """A packet has come, in order: the sockets' side of this class.  Raises
        ProtocolViolation.
        """
        if isinstance(socket, WebSocketConnection) and socket.is_probe:
            self._on_probe_packet(socket, packet)
        elif socket.sid not in self.sockets:
            return  # what a closed socket had sent along with its close
        elif isinstance(packet, bytes):
            self._enqueue(socket.sid, packet)
        elif packet[:1] == MESSAGE:
            self._enqueue(socket.sid, packet[1:])
        elif packet == PONG:
            if socket.phase is HeartbeatPhase.PONG:
                socket.phase = HeartbeatPhase.ANSWERED
        elif packet == CLOSE:
            self._leave(socket)
        else:
            raise ProtocolViolation(frames.POLICY, "no packet of Engine.IO")

    def on_closed(self, socket: EngineIOSession, reason: str) -> None:
        """Nothing more will come or go: the sockets' side of this class."""
        if isinstance(socket, WebSocketConnection) and socket.is_probe:
            self._end_probe(socket)
        elif self.sockets.get(socket.sid) is socket:
            del self.sockets[socket.sid]
            self._joining.pop(socket.sid, None)
            self._wheel.cancel(socket)
            self.rates.close(socket, polls=isinstance(socket, PollingSession))
            self._enqueue(socket.sid, SessionClosed(reason))

    def _leave(self, socket: EngineIOSession) -> None:
        if isinstance(socket, PollingSession):
            socket.end()
        else:
            socket.close()
        self.on_closed(socket, self.reason.CLIENT_DISCONNECT)

    def _close(self, socket: EngineIOSession | None, code: int, reason: str) -> None:
        if socket is not None:
            socket.close(code)
            self.on_closed(socket, reason)

    def _on_timeout(self, socket: EngineIOSession) -> None:
        """A socket's turn on the wheel: has it joined, has it answered, send it a ping."""
        if socket.phase is HeartbeatPhase.PONG:
            self._close(socket, frames.NORMAL, self.reason.PING_TIMEOUT)
        elif self._missed_join_timeout(socket.sid):
            self._close(socket, frames.POLICY, self.reason.SERVER_DISCONNECT)
        elif (rest := self._ping_delay(socket.phase)) > 0:
            socket.phase = HeartbeatPhase.PING
            self._wheel.schedule(socket, rest)
        else:
            socket.phase = HeartbeatPhase.PONG
            socket.send(PING)
            self._wheel.schedule(socket, self.ping_timeout)

    def _ping_delay(self, phase: HeartbeatPhase) -> float:
        """Seconds from the end of a phase to the next ping."""
        interval: float = self.ping_interval
        if phase is HeartbeatPhase.JOIN:
            return max(0.0, interval - JOIN_TIMEOUT)
        return interval - self.ping_timeout if phase is HeartbeatPhase.ANSWERED else 0.0

    def _missed_join_timeout(self, sid: str) -> bool:
        """Whether the session has joined nothing in the time that it had for it."""
        due = self._joining.get(sid)
        if due is not None and self.has_joined(sid):
            del self._joining[sid]
            return False
        # A turn may come a tick too soon, and the next one would be a ping's.
        return due is not None and asyncio.get_running_loop().time() + self._wheel.tick >= due

    # ---- messages, in order ----

    def _enqueue(self, sid: str, item: Packet | SessionOpened | SessionClosed) -> None:
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
                if inbox.paused and len(inbox) <= INBOX_RESUME and sid in self.sockets:
                    inbox.paused = False
                    self.sockets[sid].resume()
        finally:
            del self._inboxes[sid]

    async def _handle_one(self, sid: str, item: Packet | SessionOpened | SessionClosed) -> None:
        try:
            if isinstance(item, SessionClosed):
                await self.handlers["disconnect"](sid, item.reason)
            elif isinstance(item, SessionOpened):
                await self.handlers["connect"](sid, item.request)
            else:
                await self.handlers["message"](sid, item)
        except Exception:  # whatever a message trips over, its socket is done
            self._close(self.sockets.get(sid), frames.POLICY, self.reason.TRANSPORT_ERROR)


def _framed(packet: Packet) -> bytes:
    if isinstance(packet, bytes):
        return frames.build_frame(frames.BINARY, packet)
    return frames.build_frame(frames.TEXT, packet.encode())
