"""Mounts chat: the namespace `/chat`, in processes with the role `chat`."""

from __future__ import annotations

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
    """The objects of one instance. The constructor is a flat list, in the order of dependence."""

    def __init__(self, context: ChatContext) -> None:
        stores = context.chat_stores
        settings, clock = context.settings[ChatSettings], context.clock
        instance = context.settings[ServerSettings].instance
        retention = Retention(settings.chat_history, settings.chat_retention)
        notifier, pushes = Notifier(context.bus), Pushes(context.socket_server)
        limits = ChatLimits(settings.chat_says_per_second)
        self.client = SiteClient(
            allow_private_address=context.settings[OutboundSettings].webhooks_private
        )
        self.connections, self.rooms = Connections(), LocalRooms()
        context.report.count("chat", self.connections.__len__)
        self.fan_out = FanOut(
            store=stores.rooms,
            rooms=self.rooms,
            connections=self.connections,
            pushes=pushes,
            retention=retention,
            clock=clock,
        )
        self.conversations = Conversations(
            store=stores.conversations, notifier=notifier, retention=retention, clock=clock
        )
        blocked = BlockedSubjects(context.ended_subjects, clock)
        self.sessions = ChatSessions(
            store=stores.sessions,
            apps=context.apps,
            issuer=context.token_issuer,
            grants=context.access_grants,
            sessions=context.session_service,
            blocked=blocked,
            clock=clock,
            lifetime=settings.chat_session_lifetime,
        )
        self.presence = PresenceService(
            store=stores.members,
            rooms=self.rooms,
            connections=self.connections,
            fan_out=self.fan_out,
            pushes=pushes,
            notifier=notifier,
            clock=clock,
            instance=instance,
            conversations=stores.conversations,
        )
        self.chat = ChatService(
            stores=stores,
            rights=Rights(
                apps=context.apps,
                admission=Admission(
                    secrets=context.webhook_secrets, client=self.client, clock=clock
                ),
            ),
            conversations=self.conversations,
            connections=self.connections,
            rooms=self.rooms,
            fan_out=self.fan_out,
            presence=self.presence,
            notifier=notifier,
            limits=limits,
            retention=retention,
            clock=clock,
        )
        self.changes = ChangeReader(
            store=stores.rooms,
            restrictions=stores.restrictions,
            rooms=self.rooms,
            connections=self.connections,
            fan_out=self.fan_out,
            pushes=pushes,
            clock=clock,
            instance=instance,
            remove=self.chat.leave,
        )
        self.api = ChatSocketAPI(
            chat=self.chat,
            moderation=Moderation(store=stores.restrictions, notifier=notifier, clock=clock),
            conversations=self.conversations,
            sessions=self.sessions,
            connections=self.connections,
            presence=self.presence,
            pushes=pushes,
            limits=limits,
            failures=context.failures,
            clock=clock,
        )
        self.watch = SessionWatch(
            sessions=self.sessions,
            connections=self.connections,
            blocked=blocked,
            pushes=pushes,
        )
        self.trimmer = Trimmer(
            store=stores.rooms,
            leases=context.leader_leases,
            retention=retention,
            clock=clock,
            instance=instance,
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
