"""Keys of tunnels in Redis, and Lua functions on them.

    scanlogin:{s}:ticket:<hash>               the pending tunnel as JSON
    scanlogin:{s}:tunnel:<id>                 hash: the record
    scanlogin:{s}:tunnel-ends:<id>            sorted set: offset by the time when its `keep` ends
    scanlogin:{s}:tunnel-data:<id>            hash: offset → data
    scanlogin:{s}:tunnel-pushes:<id>          hash: push id → "<end> <offset>"
    scanlogin:{s}:tunnel-pushes-order:<id>    sorted set: push id by offset
    scanlogin:{s}:tunnel-numbers:<id>         hash: client id → "<end> <seq> <reply>"
    scanlogin:{s}:tunnel-numbers-order:<id>   sorted set: client id by seq

`s` is the first character of the tunnel's id. These keys serve many tunnels:

    scanlogin:{n}:tunnels-changed:<instance>  set: ids of tunnels with news for an instance
    scanlogin:{n}:tunnels-taken:<instance>    set: ids that the instance has read, until it tells
                                              the token in `tunnels-taken-token:<instance>`
    scanlogin:{n}:tunnels-due                 sorted set: id by `due_at`
    scanlogin:{n}:tunnels-owners              sorted set: instance by the end of its last record
    scanlogin:{n}:tunnels:<kind>:<hash>       sorted set: ids of the tunnels of one app, subject,
                                              group, person or instance, all with score 0

With one server, one script changes a tunnel and these keys. On a Cluster `n` is the shard of the
instance or of the key's name, and a second round trip changes them. A change there that is lost, or
overtaken by another, is repaired by the next `touch`, which writes all entries of a tunnel again.
All times are in milliseconds. A script that changes such keys begins with `SHARED`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import CommandPart
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.state.redis.encoding import decode_or_none, to_milliseconds
from broker.state.redis.keys import shard_prefix
from broker.tunnels.model import Tunnel, TunnelState
from broker.tunnels.ports import RECORD_TTL

RECORD_TTL_MS = to_milliseconds(RECORD_TTL)

BATCH = 100
"""Tunnels or messages of one script. Redis runs nothing else during a script."""

KEY = """
local function key(kind, id)
  return 'scanlogin:{' .. string.sub(id, 1, 1) .. '}:' .. kind .. ':' .. id
end
"""

SHARED = """
local home, channel, now, record_ttl = unpack(ARGV, 1, 4)
"""
"""The first arguments of a script: `TunnelKeys.shared_arguments`.

home: the prefix of keys that serve many tunnels; empty on a Cluster.
channel: the prefix of the channels of instances; empty if the bus is elsewhere.
"""

REMEMBER = """
local function known(name, id, now)
  local entry = redis.call('HGET', name, id)
  if not entry then
    return false
  end
  local ends, number, rest = string.match(entry, '^(%d+) (%d+)(.*)$')
  if tonumber(ends) <= tonumber(now) then
    return false
  end
  return number, rest
end

local function remember(name, order, id, number, now, ttl, most)
  redis.call('HSET', name, id, string.format('%.0f', now + ttl) .. ' ' .. number)
  redis.call('ZADD', order, number, id)
  if redis.call('ZCARD', order) > tonumber(most) then
    redis.call('HDEL', name, redis.call('ZPOPMIN', order)[1])
  end
  redis.call('PEXPIRE', name, ttl)
  redis.call('PEXPIRE', order, ttl)
end
"""
"""Numbers of ids. Each is dropped after `ttl`, or when there are more than `most`."""

RECORD = ("tunnel", "seen", "closed")
"""The fields that make a `Tunnel`."""

_decode_tunnel = decoder(Tunnel)


class TunnelKeys:
    """Names of keys, and which of them are together.

    channel: the prefix of the channels on which scripts publish; empty if they do not.
    is_together: whether a script can change a tunnel and the keys that serve many.
    """

    def __init__(self, redis: Redis, clock: Clock, *, channel: str) -> None:
        self.is_together = redis.is_single_server
        self._channel = channel
        self._clock = clock
        self._home = shard_prefix(SHARDS[0]) if self.is_together else ""

    def shared_arguments(self) -> tuple[CommandPart, ...]:
        """Return the arguments of `SHARED`."""
        return self._home, self._channel, to_milliseconds(self._clock()), RECORD_TTL_MS

    def changed(self, instance: str) -> str:
        return self._shared(f"tunnels-changed:{instance}", instance)

    def taken(self, instance: str) -> tuple[str, str]:
        names = (f"tunnels-taken:{instance}", f"tunnels-taken-token:{instance}")
        return self._shared(names[0], instance), self._shared(names[1], instance)

    def due(self) -> str:
        return self._shared("tunnels-due")

    def owners(self) -> str:
        return self._shared("tunnels-owners")

    def index(self, kind: str, *names: str) -> str:
        digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
        return self._shared(f"tunnels:{kind}:{digest}")

    def of(self, tunnel: Tunnel) -> list[str]:
        """Return the index keys that hold the tunnel."""
        named = [("subject", tunnel.subject), ("person", tunnel.person)]
        named += [("group", group) for group in tunnel.groups]
        keys = [self.index("app", tunnel.owner)]
        keys += [self.index(kind, tunnel.owner, name) for kind, name in named if name]
        if holder := holder_of(tunnel):
            keys.append(self.index("instance", holder))
        return keys

    def batches(self, ids: Sequence[str]) -> list[list[int]]:
        """Return the positions of `ids` in batches that one script can handle.

        Positions of one id are in one batch, in order: batches are sent at the same time.
        """
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position, tunnel_id in enumerate(ids):
            positions[tunnel_id].append(position)
        by_slot: defaultdict[str, list[list[int]]] = defaultdict(list)
        for tunnel_id, own in positions.items():
            batches = by_slot["" if self.is_together else tunnel_id[:1]]
            if not batches or len(batches[-1]) + len(own) > BATCH:
                batches.append([])
            batches[-1] += own
        return [batch for batches in by_slot.values() for batch in batches]

    def _shared(self, name: str, shard_name: str = "") -> str:
        return (self._home or shard_prefix(shard_of(shard_name or name))) + name


def tunnel_key(kind: str, tunnel_id: str) -> str:
    return f"{shard_prefix(tunnel_id[:1])}{kind}:{tunnel_id}"


def holder_of(tunnel: Tunnel) -> str:
    """Return the instance that holds the socket; empty if none does."""
    return tunnel.instance if tunnel.state is TunnelState.OPEN else ""


def parse_tunnel(stored: Sequence[bytes | None]) -> Tunnel | None:
    """Return the tunnel of the fields `RECORD`; None if it has ended or cannot be decoded."""
    text, seen_at, closed = stored
    tunnel = decode_or_none(_decode_tunnel, text)
    if tunnel is None or seen_at is None or closed is not None:
        return None
    return replace(tunnel, seen_at=float(seen_at))


def parse_ticket(stored: bytes | None) -> Tunnel | None:
    return decode_or_none(_decode_tunnel, stored)
