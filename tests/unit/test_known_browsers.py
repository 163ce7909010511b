"""Device cookies and sign-in cookies of known browsers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.identity.model import Identity, identity_key
from broker.infrastructure.crypto.sealing import SecretBox
from broker.oidc.known_browsers import DEVICE_LIFETIME, KnownBrowserCookies
from broker.oidc.model import hash_secret, subject_shard
from broker.state import StateBackend
from tests.support.builders import Clock
from tests.support.grants import a_sign_in

ALICE = Identity("wechat", "o-alice", provider_app_id="wx1")

NAME = "__Host-scan-login-d"


def cookies_with(key: bytes, store: StateBackend, clock: Clock) -> KnownBrowserCookies:
    box = SecretBox(lambda: [key])
    box.load()
    return KnownBrowserCookies(sign_ins=store.sign_ins, secret_box=box, clock=clock, is_secure=True)


@pytest.fixture
def cookies(store: StateBackend, clock: Clock) -> KnownBrowserCookies:
    return cookies_with(bytes(32), store, clock)


async def test_device_cookie_names_its_identity(cookies: KnownBrowserCookies) -> None:
    cookie = cookies.device_cookie(ALICE)

    assert await cookies.identity_keys(f"a=b; {NAME}={cookie}") == (identity_key(ALICE),)
    assert "o-alice" not in cookie


async def test_device_cookie_ends(cookies: KnownBrowserCookies, clock: Clock) -> None:
    cookie = cookies.device_cookie(ALICE)
    clock.time += DEVICE_LIFETIME

    assert await cookies.identity_keys(f"{NAME}={cookie}") == ()


async def test_cookie_of_another_name_is_ignored(cookies: KnownBrowserCookies) -> None:
    cookie = cookies.device_cookie(ALICE)

    assert await cookies.identity_keys(f"scan-login-d={cookie}") == ()


async def test_device_cookie_of_another_key_is_refused(
    cookies: KnownBrowserCookies, store: StateBackend, clock: Clock
) -> None:
    other = cookies_with(b"x" * 32, store, clock)

    assert await other.identity_keys(f"{NAME}={cookies.device_cookie(ALICE)}") == ()


@pytest.mark.parametrize(
    "text", ["", "=", ";;;", f"{NAME}=a.b.c", "__Host-scan-login=short", "é=ü"]
)
async def test_malformed_header_names_no_identity(cookies: KnownBrowserCookies, text: str) -> None:
    assert await cookies.identity_keys(text) == ()


async def test_sign_in_cookie_names_its_identity(
    cookies: KnownBrowserCookies, store: StateBackend, clock: Clock
) -> None:
    sign_in = a_sign_in(clock, identity=ALICE)
    cookie = subject_shard(sign_in.subject) + "c" * 42
    await store.sign_ins.save(replace(sign_in, cookie_hash=hash_secret(cookie)), clock() + 60)

    found = await cookies.identity_keys(f"__Host-scan-login={cookie}")

    assert found == (identity_key(ALICE),)
