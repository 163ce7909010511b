"""A copy of the state contains no code, cookie or token that works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_site import a_site, answer_in
from tests.support.servers.redis import RedisServer, redis_program, running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


def stored_bytes(redis: RedisServer) -> bytes:
    """Return all keys and values of the server."""
    read = {
        b"string": ("GET",),
        b"hash": ("HGETALL",),
        b"zset": ("ZRANGE", 0, -1),
        b"set": ("SMEMBERS",),
        b"list": ("LRANGE", 0, -1),
    }
    with redis.client() as client:
        parts = []
        for key in client.scan_iter():
            command, *arguments = read[client.type(key)]
            parts += [key, client.execute_command(command, key, *arguments)]
    return repr(parts).encode()


async def test_stolen_state_contains_no_working_secret(
    start_broker: StartBroker, tmp_path: Path, redis: RedisServer
) -> None:
    settings = {"state_url": redis.url}
    fields = {"sso": True, "scopes": ["openid", "profile", "offline_access"]}
    async with a_site(start_broker, tmp_path, settings=settings, **fields) as (site, browser):
        tokens = await site.signed_in(browser, scope="openid offline_access")
        location = await browser.redirect_of(site.url())
        page = await browser.open(site.url(prompt="login"))
        cookies = [cookie.value for cookie in browser.http.cookie_jar]

        stored = stored_bytes(redis)

    assert page.status == 200
    assert len(cookies) >= 2
    assert tokens["claims"]["sid"].encode() in stored
    secrets = {
        "code": answer_in(location)["code"],
        "refresh token": tokens["refresh_token"],
        "MAC of the refresh token": tokens["refresh_token"].rpartition(".")[2],
        "access token": tokens["access_token"],
        "ID token": tokens["id_token"],
        "app secret": site.secret,
        **{f"cookie {number}": value for number, value in enumerate(cookies)},
    }
    assert [name for name, secret in secrets.items() if secret.encode() in stored] == []
