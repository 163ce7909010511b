"""Keys of chat in Redis, and the changes that instances have not applied.

    scanlogin:{s}:room:<room>                hash: epoch, head, floor
    scanlogin:{s}:room-entries:<room>        stream: entries by offset
    scanlogin:{s}:room-place:<room>:<hash>   "<epoch> <offset> <at>": where a message id is
    scanlogin:{s}:room-kick:<room>:<hash>    end of a subject's kick; `room-mute` is the same
    scanlogin:{s}:room-members:<room>        sorted set: "<instance> <subject>" by end
    scanlogin:{s}:room-joined:<room>         sorted set: subject by `joined_at`
    scanlogin:{s}:room-people:<room>         hash: subject → name and nickname
    scanlogin:{s}:room-instances:<room>      hash: instance → "<members> <end>"
    scanlogin:{s}:rooms                      sorted set: room by the time of its first entry

    scanlogin:{s}:chat-session:<hash>        "<end> <person> <the session as JSON>"
    scanlogin:{s}:chat-sessions:<person>     sorted set: hashes of a person's sessions by end
    scanlogin:{s}:chats:<person>             hash: room → "<epoch> <offset> <at> <seen> <peer>"
    scanlogin:{s}:chats-order:<person>       sorted set: room by end

    scanlogin:{n}:room-changes:<instance>    hash: "<kind>/<app>/<room>/<subject or epoch>" → offset
    scanlogin:{n}:room-taken:<instance>      hash: changes that the instance has read, until it
                                             tells the token in `room-taken-token:<instance>`

`s` is the shard of the room's name; for a person it is that of `Person.room`. With one server, one
script changes a room and `room-changes`. On a Cluster `n` is the shard of the instance's name, and
a second round trip changes it. Ends of members are in milliseconds, other times in seconds.
"""

from __future__ import annotations

import hashlib

from broker.chat.model import Person, RoomKey, room_id
from broker.infrastructure.sharding import shard_of
from broker.state.redis.keys import shard_prefix


def room_key(kind: str, room: RoomKey, *parts: str) -> str:
    """Return the key `kind` of a room.  parts: texts that are hashed into the name."""
    key = f"{shard_prefix(shard_of(room.name))}{kind}:{room_id(room)}"
    return f"{key}:{digest(*parts)}" if parts else key


def person_key(kind: str, person: Person) -> str:
    return room_key(kind, person.room)


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
