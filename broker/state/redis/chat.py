"""The stores of chat in Redis."""

from __future__ import annotations

from broker.chat.ports import ChatStores
from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis
from broker.state.redis.chat_changes import ChatChanges
from broker.state.redis.chat_members import RedisMemberStore
from broker.state.redis.chat_people import RedisChatSessionStore, RedisConversationStore
from broker.state.redis.chat_restrictions import RedisRestrictionStore
from broker.state.redis.chat_rooms import RedisRoomStore
from broker.state.redis.replication import Replication


def open_chat(
    redis: Redis, replication: Replication, clock: Clock, *, publishes: bool
) -> ChatStores:
    """Return the stores.  publishes: whether scripts publish notices, see `open_state`."""
    changes = ChatChanges(redis, publishes=publishes)
    return ChatStores(
        RedisRoomStore(redis, changes, replication),
        RedisMemberStore(redis),
        RedisRestrictionStore(redis, changes),
        RedisChatSessionStore(redis, clock),
        RedisConversationStore(redis, changes, clock),
    )
