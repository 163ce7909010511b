"""Keys of tunnels in Redis, and Lua functions on them.

    scanlogin:{s}:ticket:<hash>               the pending tunnel as JSON
    scanlogin:{s}:tunnel:<id>                 hash: the record
    scanlogin:{s}:tunnel-ends:<id>            sorted set: offset by the time when its `keep` ends
    scanlogin:{s}:tunnel-data:<id>            hash: offset → data
    scanlogin:{s}:tunnel-pushes:<id>          hash: push id → "<end> <offset>"
    scanlogin:{s}:tunnel-pushes-order:<id>    sorted set: push id by offset
    scanlogin:{s}:tunnel-numbers:<id>         hash: client id → "<end> <seq> <reply>"
    scanlogin:{s}:tunnel-numbers-order:<id>   sorted set: client id by seq

`s` is the first character of the tunnel's id. Keys for many tunnels are:

    scanlogin:{m}:tunnels-changed:<instance>  set: ids of tunnels with news for an instance
    scanlogin:{m}:tunnels-due                 sorted set: id by `due_at`
    scanlogin:{n}:tunnels:<kind>:<hash>       sorted set: ids of tunnels with one app, subject,
                                              group, person or instance, all with score 0
    scanlogin:{n}:tunnels-owners              sorted set: instance by the end of its last record

With one server, `m` and `n` are the same for all keys. So one script changes a record, its
index, the changed set and the due times, and one command reads each of these. On a Cluster `m` is
the tunnel's shard, and `n` is the shard of the key's name. There, a second round trip updates the
index. An update that is lost, or overtaken by another, is repaired by the next `touch`, which
writes all entries of a tunnel again. All times are in milliseconds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from broker.infrastructure.codec import decoder
from broker.infrastructure.redis import Redis
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.state.redis.encoding import decode_or_none
from broker.tunnels.model import Tunnel, TunnelState

BATCH = 100
"""Tunnels or messages of one script. Redis runs nothing else during a script."""

KEY = """
local function key(kind, id)
  return 'scanlogin:{' .. string.sub(id, 1, 1) .. '}:' .. kind .. ':' .. id
end
"""

EXPIRE = """
local function expire(name, ttl)
  if redis.call('PTTL', name) < tonumber(ttl) then
    redis.call('PEXPIRE', name, ttl)
  end
end
"""
"""Extends the life of a key, and never shortens it."""

NOTIFY = """
local function notify(marks, channel, notice, instance, id, ttl)
  if instance == '' then
    return ''
  end
  local changed = marks .. 'tunnels-changed:' .. instance
  redis.call('SADD', changed, id)
  redis.call('PEXPIRE', changed, ttl)
  if channel ~= '' and type(redis.pcall('PUBLISH', channel .. instance, notice)) == 'number' then
    return ''
  end
  return instance
end
"""
"""Marks a tunnel as changed and publishes the notice. Returns the instance that the caller must
notify. With an empty `channel`, the bus is elsewhere. If PUBLISH is refused, the mark stays."""

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
    """

    def __init__(self, redis: Redis, *, channel: str) -> None:
        self.channel = channel
        self.is_together = redis.is_single_server
        self.mark_shards: Sequence[str] = SHARDS[:1] if self.is_together else SHARDS

    def marks(self, tunnel_id: str) -> str:
        """Return the prefix of the changed set and of the due times of a tunnel."""
        return shard_prefix(self.mark_shards[0] if self.is_together else tunnel_id[:1])

    def changed(self, shard: str, instance: str) -> str:
        return f"{shard_prefix(shard)}tunnels-changed:{instance}"

    def due(self, shard: str) -> str:
        return f"{shard_prefix(shard)}tunnels-due"

    def index(self, kind: str, *names: str) -> str:
        digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
        shard = SHARDS[0] if self.is_together else shard_of(digest)
        return f"{shard_prefix(shard)}tunnels:{kind}:{digest}"

    def owners(self) -> str:
        return f"{shard_prefix(SHARDS[0])}tunnels-owners"

    def of(self, tunnel: Tunnel) -> list[str]:
        """Return the index keys that hold the tunnel."""
        named = [("subject", tunnel.subject), ("person", tunnel.person)]
        named += [("group", group) for group in tunnel.groups]
        keys = [self.index("app", tunnel.owner)]
        keys += [self.index(kind, tunnel.owner, name) for kind, name in named if name]
        if tunnel.state is TunnelState.OPEN:
            keys.append(self.index("instance", tunnel.instance))
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
            batches = by_slot[self.marks(tunnel_id)]
            if not batches or len(batches[-1]) + len(own) > BATCH:
                batches.append([])
            batches[-1] += own
        return [batch for batches in by_slot.values() for batch in batches]


def shard_prefix(shard: str) -> str:
    return f"scanlogin:{{{shard}}}:"


def tunnel_key(kind: str, tunnel_id: str) -> str:
    return f"{shard_prefix(tunnel_id[:1])}{kind}:{tunnel_id}"


def parse_tunnel(stored: Sequence[bytes | None]) -> Tunnel | None:
    """Return the tunnel of the fields `RECORD`; None if it has ended or cannot be decoded."""
    text, seen_at, closed = stored
    tunnel = decode_or_none(_decode_tunnel, text)
    if tunnel is None or seen_at is None or closed is not None:
        return None
    return replace(tunnel, seen_at=float(seen_at))


def parse_ticket(stored: bytes | None) -> Tunnel | None:
    return decode_or_none(_decode_tunnel, stored)
