"""Instances that hold tunnels in one process, with sockets and a backend without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from broker.apps.registry import AppRegistry
from broker.bus.memory import MemoryBus
from broker.directories.open import OpenDirectory
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.notices import NoticeDispatcher
from broker.sessions.service import SessionService
from broker.state import StateBackend
from broker.tunnels.attaching import Attached, Refused, ResumeRequest, TunnelAttacher
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.hub import TunnelHub
from broker.tunnels.inbox import TunnelInboxes
from broker.tunnels.inbox_queue import ClientMessage, TunnelInboxQueue
from broker.tunnels.limits import AppTunnelLimit
from broker.tunnels.losses import LostSockets
from broker.tunnels.model import (
    NATIVE,
    WAFER,
    AcceptedOpening,
    ClosedBy,
    ClosedTunnel,
    CloseRequest,
    MessageAnswer,
    Opening,
    SocketPeer,
    StoredMessage,
    Tunnel,
    new_ticket,
    new_tunnel_id,
    secret_hash,
)
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import CallbackFailed
from broker.tunnels.session_limit import SessionTunnelLimit
from tests.support.builders import SHOP, all_pretend

PEER = SocketPeer("192.0.2.7", "a client")


class FlakyBackend:
    """A backend that waits with its answers to messages while it is down.

    accepted: the seqs of each tunnel with the id of the message, in the order of acceptance.
    given_up: those of openings that came while it was down.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, list[tuple[int, str]]] = {}
        self.given_up: dict[str, set[int]] = {}
        self.is_up = asyncio.Event()
        self.is_up.set()

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        if not self.is_up.is_set():
            self.given_up.setdefault(tunnel.id, set()).add(seq)
            raise CallbackFailed
        self._accept(tunnel, seq, "")
        return AcceptedOpening()

    async def message(
        self,
        tunnel: Tunnel,
        seq: int,
        data: bytes,
        message_id: str,
        *,
        may_repeat: Callable[[], Awaitable[bool]],
    ) -> MessageAnswer:
        while not self.is_up.is_set():
            await self.is_up.wait()
            if not await may_repeat():
                raise CallbackFailed
        self._accept(tunnel, seq, message_id)
        return MessageAnswer(reply=data)

    async def schedule_close(self, closed: ClosedTunnel, *, delay: float) -> None: ...

    async def close(self, closed: ClosedTunnel) -> None:
        self._accept(closed.tunnel, closed.seq, "close")

    async def cancel_close(self, closed: ClosedTunnel) -> None: ...

    def _accept(self, tunnel: Tunnel, seq: int, message_id: str) -> None:
        self.accepted.setdefault(tunnel.id, []).append((seq, message_id))


class FakeSocket:
    """A socket that records what its client receives.

    replies: ids of the messages that the backend has accepted.
    """

    is_read = True
    is_congested = False
    idle_timeout = 60.0

    def __init__(self, instance: Instance, attached: Attached) -> None:
        tunnel = attached.tunnel
        self.tunnel_id, self.app, self.attachment = tunnel.id, tunnel.app, tunnel.attachment
        self.position = attached.position
        self.replay_end, self.quiet, self.full_at = -1, 0, 0.0
        self.queue: TunnelInboxQueue | None = None
        self.received: list[StoredMessage] = []
        self.replies: list[str] = []
        self.closed: CloseRequest | None = None
        self._instance = instance
        instance.hub.attach(self)

    def send(self, message_id: str) -> None:
        if self.closed is None:
            self._instance.inboxes.put(self, ClientMessage(b"1", message_id))

    def deliver(self, messages: Sequence[StoredMessage]) -> None:
        self.received += messages
        self.position = messages[-1].offset

    def finish(self, why: CloseRequest) -> None:
        self.closed = why

    def abort(self) -> None:
        self.closed = CloseRequest(1006, "")

    def on_lost(self, by: ClosedBy) -> None:
        self._instance.losses.add(self.tunnel_id, self.attachment, by)

    def lose(self) -> None:
        """End the connection, as a network does."""
        self._instance.hub.lose(self)
        self.abort()

    def encode_reply(self, message_id: str, answer: MessageAnswer) -> bytes:
        return b"" if answer.error else message_id.encode()

    def send_reply(self, text: bytes) -> None:
        if self.closed is None and text:
            self.replies.append(text.decode())

    def on_handled(self, waiting: int) -> None: ...

    def end(self, why: CloseRequest) -> None:
        self._instance.hub.remove(self)
        self.finish(why)

    def drop(self) -> None:
        self.lose()

    def check(self) -> None:
        self._instance.hub.wake(self.tunnel_id)


def sessions_of(store: StateBackend) -> SessionService:
    """Return the sessions of the app `SHOP`."""
    apps = AppRegistry([SHOP])
    return SessionService(
        store=store.sessions,
        providers=all_pretend(apps),
        directory=OpenDirectory(),
        apps=apps,
        secret_box=SecretBox(lambda: [bytes(32)]),
        clock=store.clock,
        lifetime=600,
        idle_timeout=600,
    )


class Instance:
    """The parts of one instance that hold tunnels."""

    def __init__(
        self, name: str, store: StateBackend, bus: MemoryBus, backend: FlakyBackend
    ) -> None:
        stores, clock = store.tunnels, store.clock
        callbacks, news = {NATIVE: backend, WAFER: backend}, NewsSender(bus)
        self.closer = TunnelCloser(stores=stores, callbacks=callbacks, news=news)
        self.losses = LostSockets(records=stores.records, clock=clock, away_timeout=120)
        self.hub = TunnelHub(streams=stores.streams, closer=self.closer, instance=name)
        self.inboxes = TunnelInboxes(stores=stores, callbacks=callbacks, closer=self.closer)
        self.attacher = TunnelAttacher(
            api=NATIVE,
            stores=stores,
            callbacks=callbacks,
            closer=self.closer,
            losses=self.losses,
            session_service=sessions_of(store),
            app_limit=AppTunnelLimit(index=stores.index, limit=10_000, clock=clock),
            session_limit=SessionTunnelLimit(index=stores.index, closer=self.closer),
            news=news,
            clock=clock,
            instance=name,
        )
        self._stores = stores
        self._clock = clock
        notices = NoticeDispatcher(bus=bus, instance=name, handlers=[self.hub.notice_handler()])
        self.tasks = [
            BackgroundTask("news", self.hub.run),
            BackgroundTask("losses", self.losses.run),
            BackgroundTask("notices", notices.run),
        ]

    async def open(self) -> tuple[FakeSocket, Attached]:
        """Open a new tunnel. Raises Refused."""
        tunnel = Tunnel(id=new_tunnel_id(), app=SHOP.id)
        ticket = new_ticket(tunnel.id)
        await self._stores.tickets.put(secret_hash(ticket), tunnel, self._clock() + 60)
        attached = await self.attacher.open(ticket, PEER)
        return FakeSocket(self, attached), attached

    async def resume(self, attached: Attached, offset: int = 0) -> FakeSocket | None:
        """Resume a tunnel; None if the backend does not accept it now."""
        request = ResumeRequest(attached.tunnel.id, attached.resume, attached.tunnel.epoch, offset)
        try:
            return FakeSocket(self, await self.attacher.resume(request, PEER))
        except Refused:
            return None


@asynccontextmanager
async def running_instances(
    store: StateBackend, backend: FlakyBackend, *names: str
) -> AsyncIterator[list[Instance]]:
    """Run instances over one state and one bus."""
    bus = MemoryBus()
    instances = [Instance(name, store, bus, backend) for name in names]
    tasks = [task for instance in instances for task in instance.tasks]
    for task in tasks:
        task.start()
    yield instances
    for task in tasks:
        await task.stop()
    for instance in instances:
        await instance.inboxes.close()
        await instance.closer.close()
