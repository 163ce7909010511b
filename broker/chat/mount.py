"""Mounts chat: the namespace `/chat`, in processes with the role `chat`."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from broker.apps.ports import Apps, WebhookSecrets
from broker.chat import socket_api
from broker.chat.admission import Admission
from broker.chat.blocked import BlockedSubjects
from broker.chat.changes import ChangeReader
from broker.chat.connections import Connections
from broker.chat.conversations import Conversations
from broker.chat.fan_out import FanOut, Pushes
from broker.chat.limits import ChatLimits
from broker.chat.local_rooms import LocalRooms
from broker.chat.model import Retention
from broker.chat.moderation import Moderation
from broker.chat.notices import Notifier
from broker.chat.ports import ChatStores, LoginGrants
from broker.chat.presence import PresenceService
from broker.chat.rights import Rights
from broker.chat.service import ChatService
from broker.chat.sessions import ChatSessions
from broker.chat.settings import ChatSettings
from broker.chat.socket_api import ChatSocketAPI
from broker.chat.trimmer import Trimmer
from broker.chat.watch import SessionWatch
from broker.infrastructure.api.event import bind_events
from broker.infrastructure.api.mounted import Mounted, Resource
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, LeaderLeases
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.sessions.service import SessionService
from broker.tokens.issuer import TokenIssuer
from broker.users.ports import EndedSubjectLog

ROLE = "chat"

CLOSE_GRACE = 2.0
"""Seconds that the end waits for members to leave their rooms in the state."""


class ChatContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def webhook_secrets(self) -> WebhookSecrets: ...
    @property
    def token_issuer(self) -> TokenIssuer: ...
    @property
    def access_grants(self) -> LoginGrants: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def socket_server(self) -> SocketIOServer: ...
    @property
    def leader_leases(self) -> LeaderLeases: ...
    @property
    def chat_stores(self) -> ChatStores: ...
    @property
    def ended_subjects(self) -> EndedSubjectLog: ...
    @property
    def report(self) -> InstanceReport: ...


def mount(context: ChatContext) -> Mounted:
    if ROLE not in context.settings[ServerSettings].roles:
        return Mounted()
    return ChatParts(context).mounted()


class ChatParts:
    """The objects of one instance. Each is created at its first use."""

    def __init__(self, context: ChatContext) -> None:
        self._context = context
        self._stores, self._clock = context.chat_stores, context.clock
        self._instance = context.settings[ServerSettings].instance
        self._settings = context.settings[ChatSettings]
        self._retention = Retention(self._settings.chat_history, self._settings.chat_retention)
        self._limits = ChatLimits(self._settings.chat_says_per_second)
        self._notifier, self._pushes = Notifier(context.bus), Pushes(context.socket_server)
        self._blocked = BlockedSubjects(context.ended_subjects, context.clock)
        self.connections, self.rooms = Connections(), LocalRooms()
        context.report.count("chat", self.connections.__len__)

    @cached_property
    def client(self) -> SiteClient:
        settings = self._context.settings[OutboundSettings]
        return SiteClient(allow_private_address=settings.webhooks_private)

    @cached_property
    def fan_out(self) -> FanOut:
        return FanOut(
            store=self._stores.rooms,
            rooms=self.rooms,
            connections=self.connections,
            pushes=self._pushes,
            retention=self._retention,
            clock=self._clock,
        )

    @cached_property
    def conversations(self) -> Conversations:
        return Conversations(
            store=self._stores.conversations,
            notifier=self._notifier,
            retention=self._retention,
            clock=self._clock,
        )

    @cached_property
    def sessions(self) -> ChatSessions:
        return ChatSessions(
            store=self._stores.sessions,
            apps=self._context.apps,
            issuer=self._context.token_issuer,
            grants=self._context.access_grants,
            sessions=self._context.session_service,
            blocked=self._blocked,
            clock=self._clock,
            lifetime=self._settings.chat_session_lifetime,
        )

    @cached_property
    def presence(self) -> PresenceService:
        return PresenceService(
            store=self._stores.members,
            rooms=self.rooms,
            connections=self.connections,
            fan_out=self.fan_out,
            pushes=self._pushes,
            notifier=self._notifier,
            clock=self._clock,
            instance=self._instance,
            conversations=self._stores.conversations,
        )

    @cached_property
    def rights(self) -> Rights:
        admission = Admission(
            secrets=self._context.webhook_secrets, client=self.client, clock=self._clock
        )
        return Rights(apps=self._context.apps, admission=admission)

    @cached_property
    def chat(self) -> ChatService:
        return ChatService(
            stores=self._stores,
            rights=self.rights,
            conversations=self.conversations,
            connections=self.connections,
            rooms=self.rooms,
            fan_out=self.fan_out,
            presence=self.presence,
            notifier=self._notifier,
            limits=self._limits,
            retention=self._retention,
            clock=self._clock,
        )

    @cached_property
    def changes(self) -> ChangeReader:
        return ChangeReader(
            store=self._stores.rooms,
            restrictions=self._stores.restrictions,
            rooms=self.rooms,
            connections=self.connections,
            fan_out=self.fan_out,
            pushes=self._pushes,
            clock=self._clock,
            instance=self._instance,
            remove=self.chat.leave,
        )

    @cached_property
    def moderation(self) -> Moderation:
        return Moderation(
            store=self._stores.restrictions, notifier=self._notifier, clock=self._clock
        )

    @cached_property
    def api(self) -> ChatSocketAPI:
        return ChatSocketAPI(
            chat=self.chat,
            moderation=self.moderation,
            conversations=self.conversations,
            sessions=self.sessions,
            connections=self.connections,
            presence=self.presence,
            pushes=self._pushes,
            limits=self._limits,
            failures=self._context.failures,
            clock=self._clock,
        )

    @cached_property
    def watch(self) -> SessionWatch:
        return SessionWatch(
            sessions=self.sessions,
            connections=self.connections,
            blocked=self._blocked,
            pushes=self._pushes,
        )

    @cached_property
    def trimmer(self) -> Trimmer:
        return Trimmer(
            store=self._stores.rooms,
            leases=self._context.leader_leases,
            retention=self._retention,
            clock=self._clock,
            instance=self._instance,
        )

    def mounted(self) -> Mounted:
        tasks = {
            "chat changes": self.changes.sweep_forever,
            "chat members": self.presence.refresh_forever,
            "chat sessions": self.watch.run,
            "chat blocks": self.watch.run_blocks,
            "chat retention": self.trimmer.run,
        }
        return Mounted(
            events=bind_events(self.api, socket_api.SOCKET_EVENTS),
            namespaces=[self.api.namespace()],
            tasks=[BackgroundTask(name, work) for name, work in tasks.items()],
            resources=[
                Resource(self.client.open, self.client.close),
                Resource(do_nothing, self._close),
            ],
            notices=[self.changes.notice_handler()],
        )

    async def _close(self) -> None:
        await self.api.close()
        await self.changes.close()
        await self.fan_out.close()
        await self.presence.close(grace=CLOSE_GRACE)
