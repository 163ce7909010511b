"""Which server, or servers, a URL names.

    redis://[user:password@]host:port[/db]         one server
    redis+sentinel://host:port,host:port/service   whichever Sentinel calls the master
    redis+cluster://host:port,host:port            a Cluster

`rediss` in place of `redis` means TLS.  The query may hold redis-py's own options,
such as `ssl_ca_certs`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis import asyncio as aioredis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from broker.infrastructure.redis.cluster import MAX_IN_FLIGHT, RedisCluster
from broker.infrastructure.redis.connection import REPLY_TIMEOUT
from broker.infrastructure.redis.server import RedisServer
from broker.infrastructure.urls import unknown_option

FILES = {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
"""Options that name a file or a folder."""


def open_from_url(url: str, *, writes: bool) -> RedisServer | RedisCluster:
    """The server that `url` names, with nothing connected yet; raises ValueError."""
    parts = urlsplit(url)
    transport, _, form = parts.scheme.partition("+")
    options = dict(parse_qsl(parts.query))
    if "protocol" in options:
        raise ValueError("want no protocol: it is RESP3, on which notices come")
    _check_files(options)
    try:
        if form == "sentinel":
            return _under_sentinel(parts, transport, writes=writes)
        if form == "cluster":
            return _in_cluster(parts, transport, writes=writes)
        pool = aioredis.ConnectionPool.from_url(url, **_options())
        return _server(pool.make_connection, pool.aclose, writes=writes)
    except TypeError as error:
        name = re.search(r"unexpected keyword argument '(.*)'", str(error))
        raise ValueError(unknown_option(name[1], url) if name else str(error)) from None
    except RedisError as error:
        raise ValueError(str(error)) from None


def _server(
    make: Callable[[], AbstractConnection],
    let_go: Callable[[], Awaitable[None]],
    *,
    writes: bool,
) -> RedisServer:
    make()  # connects nothing, and refuses what it does not know
    return RedisServer(make, let_go, writes=writes)


def _under_sentinel(parts: SplitResult, transport: str, *, writes: bool) -> RedisServer:
    """`redis+sentinel://[user:password@]host:port,host:port/service[/db]`.

    The query may hold `sentinel_username` and `sentinel_password`, and redis-py's own options.
    """
    query = dict(parse_qsl(parts.query))
    sentinel_options = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    words = [unquote(word) for word in parts.path.split("/") if word]
    service = next((word for word in words if not word.isdigit()), "mymaster")
    database = next((word for word in words if word.isdigit()), "0")
    options = _from_query(parts, transport, query) | {"db": int(database)}
    limits = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        _addresses(parts, 26379),
        sentinel_kwargs={**limits, "retry": Retry(NoBackoff(), 0), **sentinel_options},
        **options,
    )
    master = sentinel.master_for(service)

    async def let_go() -> None:
        for one in sentinel.sentinels:
            await one.aclose()

    return _server(master.connection_pool.make_connection, let_go, writes=writes)


def _in_cluster(parts: SplitResult, transport: str, *, writes: bool) -> RedisCluster:
    """`redis+cluster://[user:password@]host:port,host:port`, with redis-py's options as query."""
    options = _from_query(parts, transport, dict(parse_qsl(parts.query)))
    nodes = [ClusterNode(host, port) for host, port in _addresses(parts, 6379)]
    client = aioredis.RedisCluster(
        startup_nodes=nodes, max_connections=2 * MAX_IN_FLIGHT, **options
    )
    return RedisCluster(client, writes=writes)


def _from_query(parts: SplitResult, transport: str, query: Mapping[str, str]) -> dict[str, Any]:
    """redis-py's options from a URL that names several servers, by its own reading of one."""
    user = parts.netloc.rpartition("@")[0]
    one = f"{transport}://{user + '@' if user else ''}localhost/?{urlencode(query)}"
    options: dict[str, Any] = {**_options(), **parse_url(one)}
    options.pop("host")
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    return options


def _addresses(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """The `host:port` pairs of a URL; raises ValueError."""
    found = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place}")
        if not one.hostname:
            raise ValueError("want host:port, host:port …")
        found.append((one.hostname, one.port or port))
    return found


def _check_files(options: Mapping[str, str]) -> None:
    """Raise ValueError for a file that cannot be read: every connection would fail."""
    for name in FILES & options.keys():
        if not os.access(options[name], os.R_OK):
            raise ValueError(f"{name}: cannot read {options[name]}")


def _options() -> dict[str, Any]:
    """What every connection is made with; a URL's own options weigh more."""
    return {
        "protocol": 3,
        "socket_connect_timeout": REPLY_TIMEOUT / 2,
        "socket_timeout": REPLY_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),  # a lost wire is this file's business
        "client_name": "scan-login",
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
