"""The Socket.IO namespace `/chat`: events that clients send, and the greeting."""

from __future__ import annotations

from contextlib import suppress

from broker.chat.connections import Connection, Connections
from broker.chat.conversations import Conversations, Target
from broker.chat.fan_out import NAMESPACE, Pushes
from broker.chat.limits import ChatLimits
from broker.chat.local_rooms import member_of
from broker.chat.metrics import REFUSED
from broker.chat.model import RestrictionKind
from broker.chat.moderation import Moderation
from broker.chat.payloads import (
    Payload,
    conversation_payload,
    entries_payload,
    member_payload,
)
from broker.chat.presence import PresenceService
from broker.chat.rules import Position, check_data, in_order
from broker.chat.schema_api import (
    NICKNAME_MAX,
    ChatConnectRequest,
    ConversationsResponse,
    DeleteResponse,
    EmptyResponse,
    HistoryRequest,
    HistoryResponse,
    JoinRequest,
    JoinResponse,
    LeaveResponse,
    RestrictRequest,
    RoomOffsetRequest,
    RoomRequest,
    SayRequest,
    SayResponse,
    TypingRequest,
)
from broker.chat.service import ChatService
from broker.chat.sessions import ChatSessions
from broker.errors import BrokerError, InvalidRequest, Unavailable
from broker.infrastructure.api.client_address import Caller
from broker.infrastructure.api.endpoint import Operation
from broker.infrastructure.api.event import Event, EventNamespace
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    EmptyRequest,
    parse,
    sanitize_text,
)
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock, seconds_until
from broker.sessions.model import SessionToken


class ChatSocketAPI:
    """Accepts connections and answers their events."""

    def __init__(
        self,
        *,
        chat: ChatService,
        moderation: Moderation,
        conversations: Conversations,
        sessions: ChatSessions,
        connections: Connections,
        presence: PresenceService,
        pushes: Pushes,
        limits: ChatLimits,
        failures: RateLimiter,
        clock: Clock,
    ) -> None:
        self._chat = chat
        self._moderation = moderation
        self._conversations = conversations
        self._sessions = sessions
        self._connections = connections
        self._presence = presence
        self._pushes = pushes
        self._limits = limits
        self._failures = failures
        self._clock = clock
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close(grace=0)

    def namespace(self) -> EventNamespace[Connection]:
        return EventNamespace(
            NAMESPACE,
            authenticate=self.connect,
            run=self.run,
            on_connect=self.greet,
            on_disconnect=self._chat.disconnect,
        )

    async def connect(self, caller: Caller, auth: object) -> Connection:
        """Return the authenticated connection. Raises a BrokerError to refuse it."""
        body = parse(ChatConnectRequest, auth)
        with self._failures.counting_failures(caller.ip):
            connection = await self._authenticate(body, caller.origin)
        if body.nickname:
            nickname = sanitize_text(body.nickname, NICKNAME_MAX) or None
            connection.author = connection.author._replace(nickname=nickname)
        connection.joined_at = self._clock()
        return connection

    def greet(self, sid: str, connection: Connection) -> None:
        """Register the connection, and send `chat-ready` soon. Raises TooManyConnections."""
        self._connections.add(sid, connection)
        self._tasks.spawn("chat greeting", self._send_ready(connection))

    async def run(
        self, sid: str, peer: Connection, operation: Operation, payload: object
    ) -> object:
        """Call the handler of an event, and count a refusal."""
        try:
            return await operation.call(peer, payload=payload)
        except BrokerError as error:
            REFUSED.labels(peer.app, error.error).inc()
            raise

    async def join(self, connection: Connection, body: JoinRequest) -> JoinResponse:
        target = await self._target(connection, body)
        position = None
        if body.offset is not None:
            position = Position(body.epoch or "", body.offset)
        answer = await self._chat.join(connection, target, position)
        page = answer.joined.page
        return {
            "room": target.key.name,
            "epoch": page.epoch,
            "offset": page.head,
            "recovered": answer.joined.recovered,
            "messages": entries_payload(page.entries),
            "members": [member_payload(one, online=online) for one, online in answer.members],
            "online": answer.online,
            "may": in_order(answer.may),
        }

    async def leave(self, connection: Connection, body: RoomRequest) -> LeaveResponse:
        target = await self._target(connection, body)
        self._chat.leave(connection, target.key)
        return {"room": target.key.name}

    async def say(self, connection: Connection, body: SayRequest) -> SayResponse:
        if not body.text and body.data is None:
            raise InvalidRequest("send text, data or both")
        check_data(body.data)
        target = await self._conversations.target(connection, body.room, body.to)
        place = await self._chat.say(connection, target, body.id, body.text or None, body.data)
        return {"room": target.key.name, "offset": place.offset, "at": place.at}

    async def history(self, connection: Connection, body: HistoryRequest) -> HistoryResponse:
        target = await self._target(connection, body)
        page = await self._chat.history(connection, target, body.before, body.limit)
        return {"messages": entries_payload(page.entries), "more": page.more}

    async def conversations(
        self, connection: Connection, body: EmptyRequest
    ) -> ConversationsResponse:
        self._limits.count_request(connection.person)
        found = await self._conversations.of(connection)
        return {"conversations": [conversation_payload(one) for one in found]}

    async def seen(self, connection: Connection, body: RoomOffsetRequest) -> EmptyResponse:
        target = await self._target(connection, body)
        await self._chat.see(connection, target, body.offset)
        return {}

    async def typing(self, connection: Connection, body: TypingRequest) -> EmptyResponse:
        target = await self._target(connection, body)
        await self._chat.type(connection, target, on=body.on)
        return {}

    async def delete(self, connection: Connection, body: RoomOffsetRequest) -> DeleteResponse:
        target = await self._target(connection, body)
        place = await self._chat.delete(connection, target, body.offset)
        return {"room": target.key.name, "offset": body.offset, "entry": place.offset}

    async def mute(self, connection: Connection, body: RestrictRequest) -> EmptyResponse:
        return await self._restrict(connection, body, RestrictionKind.MUTE)

    async def kick(self, connection: Connection, body: RestrictRequest) -> EmptyResponse:
        return await self._restrict(connection, body, RestrictionKind.KICK)

    async def _target(self, connection: Connection, body: RoomRequest) -> Target:
        """Count a request, and return its room. `say` counts by itself."""
        self._limits.count_request(connection.person)
        return await self._conversations.target(connection, body.room, body.to)

    async def _restrict(
        self, connection: Connection, body: RestrictRequest, kind: RestrictionKind
    ) -> EmptyResponse:
        target = await self._target(connection, body)
        await self._moderation.restrict(connection, target, body.subject, kind, body.seconds)
        return {}

    async def _authenticate(self, body: ChatConnectRequest, origin: str | None) -> Connection:
        if body.resume is not None:
            return await self._sessions.resume(body.resume, origin)
        if body.token is not None:
            return await self._sessions.open_by_token(body.token, body.app, origin)
        if body.id is not None and body.skey is not None:
            return await self._sessions.open_by_phone(SessionToken(body.id, body.skey), origin)
        raise InvalidRequest("send token, id with skey, or resume")

    async def _send_ready(self, connection: Connection) -> None:
        """Make the person reachable for point-to-point messages, and send `chat-ready`."""
        with suppress(Unavailable):  # the next write of all members repeats it
            await self._presence.enter(connection.person.room, member_of(connection))
        resume, connection.resume = connection.resume, ""
        payload: Payload = {
            "subject": connection.author.subject,
            "name": connection.author.name,
            "resume": resume,
            "expires_in": seconds_until(connection.session.expires_at, self._clock()),
        }
        await self._pushes.send("chat-ready", payload, [connection.sid])


SOCKET_EVENTS = [
    Event(NAMESPACE, "join", ChatSocketAPI.join, request=JoinRequest, response=JoinResponse),
    Event(NAMESPACE, "leave", ChatSocketAPI.leave, request=RoomRequest, response=LeaveResponse),
    Event(NAMESPACE, "say", ChatSocketAPI.say, request=SayRequest, response=SayResponse),
    Event(
        NAMESPACE,
        "history",
        ChatSocketAPI.history,
        request=HistoryRequest,
        response=HistoryResponse,
    ),
    Event(NAMESPACE, "conversations", ChatSocketAPI.conversations, response=ConversationsResponse),
    Event(NAMESPACE, "seen", ChatSocketAPI.seen, request=RoomOffsetRequest, response=EmptyResponse),
    Event(NAMESPACE, "typing", ChatSocketAPI.typing, request=TypingRequest, response=EmptyResponse),
    Event(
        NAMESPACE,
        "delete",
        ChatSocketAPI.delete,
        request=RoomOffsetRequest,
        response=DeleteResponse,
    ),
    Event(NAMESPACE, "mute", ChatSocketAPI.mute, request=RestrictRequest, response=EmptyResponse),
    Event(NAMESPACE, "kick", ChatSocketAPI.kick, request=RestrictRequest, response=EmptyResponse),
]
