"""URLs of Redis servers.

    redis://[user:password@]host:port[/db]         one server
    redis+sentinel://host:port,host:port/service   the current master, found by Sentinel
    redis+cluster://host:port,host:port            a Cluster

`rediss` instead of `redis` means TLS. The query may contain options of redis-py, such as
`ssl_ca_certs`.
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
"""Options that are a path of a file or folder."""


def open_from_url(
    url: str, name: str, *, writes: bool, replicas: int
) -> RedisServer | RedisCluster:
    """Return the server or Cluster at `url`, not connected yet. Raises ValueError."""
    parts = urlsplit(url)
    transport, _, form = parts.scheme.partition("+")
    options = dict(parse_qsl(parts.query))
    if "protocol" in options:
        raise ValueError("remove the option protocol: subscriptions require RESP3")
    _check_files(options)
    try:
        if form == "sentinel":
            return _sentinel_server(parts, transport, name, writes=writes, replicas=replicas)
        if form == "cluster":
            return _cluster(parts, transport, name, writes=writes)
        pool = aioredis.ConnectionPool.from_url(url, **_options())
        return _server(pool.make_connection, pool.aclose, name, writes=writes, replicas=replicas)
    except TypeError as error:
        option = re.search(r"unexpected keyword argument '(.*)'", str(error))
        raise ValueError(unknown_option(option[1], url) if option else str(error)) from None
    except RedisError as error:
        raise ValueError(str(error)) from None


def _server(
    make: Callable[[], AbstractConnection],
    close_pool: Callable[[], Awaitable[None]],
    name: str,
    *,
    writes: bool,
    replicas: int,
) -> RedisServer:
    make()  # does not connect; raises TypeError for an unknown option
    return RedisServer(make, close_pool, name, writes=writes, replicas=replicas)


def _sentinel_server(
    parts: SplitResult, transport: str, name: str, *, writes: bool, replicas: int
) -> RedisServer:
    """Open `redis+sentinel://[user:password@]host:port,host:port/service[/db]`.

    The query may contain `sentinel_username`, `sentinel_password` and options of redis-py.
    """
    query = dict(parse_qsl(parts.query))
    sentinel_options = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = next((segment for segment in segments if not segment.isdigit()), "mymaster")
    database = next((segment for segment in segments if segment.isdigit()), "0")
    options = _from_query(parts, transport, query) | {"db": int(database)}
    limits = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        _addresses(parts, 26379),
        sentinel_kwargs={**limits, "retry": Retry(NoBackoff(), 0), **sentinel_options},
        **options,
    )
    master = sentinel.master_for(service)

    async def close_sentinels() -> None:
        for client in sentinel.sentinels:
            await client.aclose()

    make = master.connection_pool.make_connection
    return _server(make, close_sentinels, name, writes=writes, replicas=replicas)


def _cluster(parts: SplitResult, transport: str, name: str, *, writes: bool) -> RedisCluster:
    """Open `redis+cluster://[user:password@]host:port,host:port`."""
    options = _from_query(parts, transport, dict(parse_qsl(parts.query)))
    nodes = [ClusterNode(host, port) for host, port in _addresses(parts, 6379)]
    client = aioredis.RedisCluster(
        startup_nodes=nodes, max_connections=2 * MAX_IN_FLIGHT, **options
    )
    return RedisCluster(client, name, writes=writes)


def _from_query(parts: SplitResult, transport: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return redis-py's options from a URL with several servers.

    redis-py parses URLs with one server only, so it gets the same URL with one.
    """
    user = parts.netloc.rpartition("@")[0]
    url = f"{transport}://{user + '@' if user else ''}localhost/?{urlencode(query)}"
    options: dict[str, Any] = {**_options(), **parse_url(url)}
    options.pop("host")
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    return options


def _addresses(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """Return the hosts and ports of a URL. Raises ValueError.

    port: used if the URL has none.
    """
    addresses = []
    for address in parts.netloc.rpartition("@")[2].split(","):
        server = urlsplit(f"//{address}")
        if not server.hostname:
            raise ValueError("use host:port, or host:port,host:port for several servers")
        addresses.append((server.hostname, server.port or port))
    return addresses


def _check_files(options: Mapping[str, str]) -> None:
    """Raise ValueError for a file that cannot be read. Every connection would fail."""
    for name in FILES & options.keys():
        if not os.access(options[name], os.R_OK):
            raise ValueError(f"{name}: cannot read {options[name]}")


def _options() -> dict[str, Any]:
    """Return the options of every connection. Options of the URL take precedence."""
    return {
        "protocol": 3,
        "socket_connect_timeout": REPLY_TIMEOUT / 2,
        "socket_timeout": REPLY_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),  # `Reconnector` reconnects
        "client_name": "scan-login",
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
