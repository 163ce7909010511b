"""Tunnels for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from broker.state import StateBackend
from broker.tunnels.model import (
    ClosedBy,
    ClosedTunnel,
    Tunnel,
    new_tunnel_id,
)
from broker.tunnels.ports import Push


def a_tunnel(**changes: Any) -> Tunnel:
    """Return an open tunnel at the instance `one`."""
    tunnel = Tunnel(
        id=new_tunnel_id(),
        app="shop",
        incarnation="first",
        subject="pretend:alice",
        openid="alice",
        groups=("match-1", "players"),
        resume_hash=b"r" * 32,
        attachment=1,
        version=1,
        instance="one",
        epoch="e1",
        opened_at=1_000_000.25,
        seen_at=1_000_000.5,
    )
    return replace(tunnel, **changes)


async def stored_tunnel(store: StateBackend, **changes: Any) -> Tunnel:
    tunnel = a_tunnel(**changes)
    assert await store.tunnels.records.change(tunnel, attachment=0) is not None
    return tunnel


def a_close(tunnel: Tunnel, **changes: Any) -> ClosedTunnel:
    closed = ClosedTunnel(tunnel=tunnel, seq=1, code=4010, reason="done", by=ClosedBy.SERVER)
    return replace(closed, **changes)


def next_version(tunnel: Tunnel, **changes: Any) -> Tunnel:
    """Return the next version of a tunnel."""
    return replace(tunnel, version=tunnel.version + 1, **changes)


async def push(store: StateBackend, tunnel: Tunnel, *pushes: Push) -> list[int]:
    """Push messages to a tunnel, and return their offsets."""
    found = await store.tunnels.streams.append(tunnel.owner, tunnel.api, pushes)
    assert all(one is not None for one in found)
    return [one.offset for one in found if one is not None]
