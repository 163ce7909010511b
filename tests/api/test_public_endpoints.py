"""Tests of the public endpoints."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jwt
import pytest
import structlog
from yarl import URL

from broker import __version__
from broker.blobs.pictures import ObjectPictureStore
from broker.blobs.settings import BlobSettings
from broker.login.lobby import Lobby
from broker.pool.pictures import picture_key
from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings
from broker.widget.api import STATIC
from tests.support.builders import RunningBroker, StartBroker
from tests.support.logins import token_of
from tests.support.servers.redis import redis_program, running
from tests.support.servers.s3 import running_s3
from tests.support.waiting import eventually


@pytest.fixture
async def http(broker: RunningBroker) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(broker.url) as session:
        yield session


async def publishes(broker: RunningBroker, kid: str) -> bool:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{broker.url}/.well-known/jwks.json") as response,
    ):
        return kid in await response.text()


async def test_tokens_are_verifiable_before_and_after_a_rotation(
    broker: RunningBroker,
) -> None:
    keys = jwt.PyJWKClient(f"{broker.url}/.well-known/jwks.json")

    def check(token: str) -> str:
        claims = jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=["ES256"],
            issuer=broker.url,
            audience="default",
            options={"require": ["exp", "iat", "sub", "aud", "iss", "jti"]},
        )
        return str(claims["sub"])

    before = await token_of(broker)
    assert await asyncio.to_thread(check, before) == "pretend:alice"

    file = SigningKeyFile(broker.settings[TokenSettings].key_file)
    rings = file.load()
    assert rings is not None
    rotated = rings.rotated(
        now=2_000_000_000, token_lifetime=600, hint_lifetime=0, algorithm="ES256"
    )
    file.save(rotated)
    await eventually(lambda: publishes(broker, rotated.main.next["kid"]))
    after = await token_of(broker)

    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    assert await asyncio.to_thread(check, after) == "pretend:alice"
    assert await asyncio.to_thread(check, before) == "pretend:alice"


async def test_key_set_is_cacheable_and_readable_by_any_page(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/.well-known/jwks.json") as response:
        assert response.headers["Cache-Control"] == "public, max-age=300"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        keys = (await response.json())["keys"]
        assert len(keys) >= 2
        assert all({"kid", "alg", "use"} <= set(key) for key in keys)


async def test_health_and_version(http: aiohttp.ClientSession) -> None:
    async with http.get("/health/live") as response:
        assert (response.status, await response.json()) == (200, {"status": "live"})
    async with http.get("/health/ready") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})
    async with http.get("/version") as response:
        assert (await response.json())["version"] == __version__


async def test_failing_lobby_makes_the_instance_not_ready(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Lobby, push: object) -> None:
        raise OSError("the bus is unavailable")

    with structlog.testing.capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr(Lobby, "run", fail)
        broker = await start_broker(ready=False)
        async with aiohttp.ClientSession(broker.url) as http:
            async with http.get("/health/ready") as response:
                answer = await response.json()
                assert (response.status, answer["error"]) == (503, "temporarily_unavailable")
            async with http.get("/health/live") as response:
                assert response.status == 200
    failures = [line["task"] for line in lines if line["event"] == "task failed"]
    assert failures[0] == "lobby"


async def test_metrics_are_absent_on_the_public_port(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as response:
        assert response.status == 404
        assert (await response.json())["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/scan-login.js", "scan-login.js"),
        (f"/scan-login-{__version__}.js", "scan-login.js"),
        ("/socket.io/socket.io.min.js", "vendor/socket.io.min.js"),
        ("/socket.io/socket.io.esm.min.js", "vendor/socket.io.esm.min.js"),
    ],
)
async def test_scripts_are_served_to_pages_of_any_site(
    http: aiohttp.ClientSession, path: str, file: str
) -> None:
    async with http.get(path) as response:
        assert response.status == 200
        assert response.content_type == "text/javascript"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert await response.read() == (STATIC / file).read_bytes()
        etag = response.headers["ETag"]
    async with http.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304


async def test_widget_of_the_version_is_immutable(http: aiohttp.ClientSession) -> None:
    async with http.get(f"/scan-login-{__version__}.js") as response:
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_widget_of_another_version_is_absent(http: aiohttp.ClientSession) -> None:
    async with http.get("/scan-login-0.0.9.js") as response:
        assert response.status == 404


@pytest.fixture
async def pictures(broker: RunningBroker) -> ObjectPictureStore:
    """The picture store that the broker serves."""
    return ObjectPictureStore(
        broker.settings[BlobSettings].pictures_url,
        public_url=broker.settings[BlobSettings].pictures_public_url,
    )


async def test_picture_is_readable_by_any_page_and_immutable(
    http: aiohttp.ClientSession, pictures: ObjectPictureStore
) -> None:
    key = picture_key("scene-1", "image/png")
    await pictures.put(key, b"a picture")

    async with http.get(pictures.url(key)) as response:
        assert (response.status, await response.read()) == (200, b"a picture")
        assert response.content_type == "image/png"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        etag = response.headers["ETag"]
    async with http.get(f"/codes/{key}", headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag


@pytest.mark.parametrize(
    "path",
    [
        picture_key("unknown scene", "image/png"),
        "x.png",
        "..%2f..%2fscan-login.db",
        "%2e%2e%2fsecret.txt",
        "..%5csecret.txt",
        f"..%2fpictures%2f{picture_key('scene-1', 'image/png')}",
        f"{picture_key('scene-1', 'image/png')}%00",
        f"{picture_key('scene-1', 'image/png')}%0a",
        "%ff.png",
    ],
)
async def test_path_below_codes_serves_pictures_only(
    http: aiohttp.ClientSession, pictures: ObjectPictureStore, path: str
) -> None:
    folder = Path(pictures.location.removeprefix("file://"))
    await pictures.put(picture_key("scene-1", "image/png"), b"a picture")
    (folder.parent / "secret.txt").write_text("canary")
    (folder / "x.png").write_text("canary")

    async with http.get(URL(f"/codes/{path}", encoded=True)) as response:
        assert response.status == 404
        assert (await response.json())["error"] == "invalid_request"
        assert "no-store" in response.headers["Cache-Control"]


async def test_pictures_of_s3_are_served_by_the_broker(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    key, other = (picture_key(scene, "image/jpeg") for scene in ("scene-1", "scene-2"))
    with running_s3() as server:
        server.make_bucket("pictures")
        store = {"pictures_url": "s3://pictures/codes", "pictures_endpoint": server.url}
        broker = await start_broker(**store)
        await ObjectPictureStore(
            "s3://pictures/codes", public_url="https://x.example", endpoint=server.url
        ).put(key, b"a picture")

        async with aiohttp.ClientSession(broker.url) as http:
            async with http.get(f"/codes/{key}") as response:
                assert await response.read() == b"a picture"
                assert response.content_type == "image/jpeg"
            server.stop()
            async with http.get(f"/codes/{key}") as response:
                assert response.status == 200  # from the cache
            with structlog.testing.capture_logs() as lines:
                for _ in range(2):
                    async with http.get(f"/codes/{other}") as response:
                        assert (response.status, response.headers["Retry-After"]) == (503, "2")
                        assert "127.0.0.1" not in await response.text()
                server.start()
                server.make_bucket("pictures")
                async with http.get(f"/codes/{other}") as response:
                    assert response.status == 404
    events = [line["event"] for line in lines]
    assert events == ["picture store unavailable", "picture store recovered"]


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        (
            "socket.io.min.js",
            "d5d79a35039e860b32bdef4795528b05c2f788d4b2d9dacc913120e2878f7b3f",
        ),
        (
            "socket.io.esm.min.js",
            "771c3872e7d9bf81020615fda67ef0fd2aa61fcaf1990100714a46fa2c39f8a1",
        ),
    ],
)
def test_vendored_client_equals_its_release(file: str, digest: str) -> None:
    """The files of dist/ in the npm package socket.io-client 4.8.4."""
    content = (STATIC / "vendor" / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert b"Socket.IO v4.8.4" in content


async def test_start_page_is_in_the_language_of_the_browser(http: aiohttp.ClientSession) -> None:
    for language, text in [("zh", "扫码登录服务已启动"), ("en", "is running")]:
        async with http.get("/", headers={"Accept-Language": language}) as response:
            page = await response.text()
            assert text in page
            assert "/scan-login.js" in page


async def test_response_does_not_name_the_server_software(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/nothing-here", "/health/live", "/phone/scan"):
        async with http.get(path) as response:
            assert response.headers["Server"] == "scan-login"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_broker_without_state_is_not_ready_and_refuses(
    start_broker: StartBroker,
) -> None:
    with running(redis_program()) as server:
        broker = await start_broker(state_url=server.url)
        async with aiohttp.ClientSession(broker.url) as http:
            await eventually(lambda: answers(http, 200))
            server.kill()
            await eventually(lambda: answers(http, 503))
            async with http.get("/health/ready") as response:
                assert "state unavailable" in await response.text()
            form = {"client_id": "default"}
            async with http.post("/oauth/device_authorization", data=form) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "2")
                assert (await response.json())["error"] == "temporarily_unavailable"
            async with http.get("/health/live") as response:
                assert response.status == 200
            server.start()
            await eventually(lambda: answers(http, 200))


async def answers(http: aiohttp.ClientSession, status: int) -> bool:
    async with http.get("/health/ready") as response:
        return response.status == status
