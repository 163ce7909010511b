"""Conformance of picture stores, and the cache of pictures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from broker.blobs.pictures import ObjectPictureStore
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.pool.errors import PicturesUnavailable
from broker.pool.pictures import (
    CACHE_CONTROL,
    EXTENSIONS,
    FETCHES_SHARE,
    MISSING_TTL,
    PictureCache,
    is_key,
    picture_key,
)
from tests.support.builders import Clock
from tests.support.environment import free_port
from tests.support.servers.s3 import S3Server, running_s3
from tests.support.waiting import eventually

KEY = picture_key("scene-1", "image/png")
OTHER = picture_key("scene-2", "image/png")
PUBLIC = "https://cdn.example/codes"
ADDRESS = "192.0.2.1"
THEN = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.fixture
def any_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary-any")


@pytest.fixture
def frail_s3(any_credentials: None) -> Iterator[S3Server]:
    """A server that a test may stop or pause."""
    with running_s3() as server:
        server.make_bucket("pictures")
        yield server


def at(endpoint: str, bucket: str = "pictures") -> ObjectPictureStore:
    return ObjectPictureStore(f"s3://{bucket}/codes", public_url=PUBLIC, endpoint=endpoint)


async def test_picture_is_returned_until_its_removal(pictures: ObjectPictureStore) -> None:
    assert await pictures.get(KEY) is None

    await pictures.put(KEY, b"a picture")
    await pictures.put(OTHER, b"another")
    assert await pictures.get(KEY) == b"a picture"

    await pictures.remove(KEY)
    assert await pictures.get(KEY) is None
    assert await pictures.get(OTHER) == b"another"
    await pictures.remove(KEY)


async def test_put_does_not_replace_a_picture(pictures: ObjectPictureStore) -> None:
    await pictures.put(KEY, b"the first")
    await pictures.put(KEY, b"the second")

    assert await pictures.get(KEY) == b"the first"


async def test_url_begins_with_the_public_url(pictures: ObjectPictureStore) -> None:
    assert pictures.url(KEY) == f"{PUBLIC}/{KEY}"


@pytest.mark.parametrize("media_type", EXTENSIONS)
async def test_picture_has_media_type_and_cache_control(
    s3: S3Server, any_credentials: None, media_type: str
) -> None:
    key = picture_key("scene-1", media_type)
    await at(s3.url).put(key, b"a picture")

    metadata = s3.head("pictures", f"codes/{key}")

    assert metadata["ContentType"] == media_type
    assert metadata["CacheControl"] == CACHE_CONTROL == "public, max-age=31536000, immutable"


async def test_store_without_conditional_put_accepts_pictures(
    s3: S3Server, any_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    pictures = at(s3.url)
    key = picture_key("scene-of-no-condition", "image/png")

    await pictures.put(key, b"a picture")
    await pictures.put(key, b"a picture")

    assert await pictures.get(key) == b"a picture"


@pytest.mark.parametrize(("bucket", "path"), [("pictures", "/pictures/codes/"), ("127", "/codes/")])
async def test_endpoint_host_may_contain_the_bucket(
    any_credentials: None, bucket: str, path: str
) -> None:
    requests: list[str] = []

    async def note(request: web.Request) -> web.Response:
        requests.append(request.path)
        return web.Response(body=b"a picture")

    application = web.Application()
    application.router.add_get("/{path:.*}", note)
    async with serve_sites([Site("s3", application, "127.0.0.1", 0, "PORT")]) as addresses:
        assert await at(addresses["s3"], bucket).get(KEY) == b"a picture"

    assert requests == [f"{path}{KEY}"]


# --- keys


def test_key_is_stable_and_hides_the_scene() -> None:
    scene = "an-unguessable-scene-of-32-chars"

    key = picture_key(scene, "image/jpeg")

    assert key == picture_key(scene, "image/jpeg")
    assert is_key(key)
    assert len(key) == 32 + len(".jpg")
    assert scene not in key
    assert key.split(".")[0] != picture_key("another", "image/jpeg").split(".")[0]


def test_unknown_media_type_has_no_key() -> None:
    with pytest.raises(ValueError, match="text/html is not one of image/jpeg"):
        picture_key("scene-1", "text/html")


# --- failures


async def all_acts(pictures: ObjectPictureStore) -> list[PicturesUnavailable]:
    """Return the failure of each method."""
    acts = [pictures.put(KEY, b"a picture"), pictures.get(KEY), pictures.remove(KEY)]
    failures = await asyncio.gather(*acts, return_exceptions=True)
    assert all(isinstance(failure, PicturesUnavailable) for failure in failures), failures
    return [failure for failure in failures if isinstance(failure, PicturesUnavailable)]


async def test_stopped_store_is_a_temporary_failure(frail_s3: S3Server) -> None:
    pictures = at(frail_s3.url)
    frail_s3.stop()

    for failure in await all_acts(pictures):
        assert failure.retryable
        assert failure.reason.startswith("picture store s3://pictures/codes: ")
        assert "error sending request" in failure.reason
        assert "\n" not in failure.reason
        assert "RetryError" not in failure.reason

    frail_s3.start()
    frail_s3.make_bucket("pictures")
    await pictures.put(KEY, b"a picture")


async def test_hanging_store_is_a_temporary_failure(frail_s3: S3Server) -> None:
    pictures = at(frail_s3.url)
    frail_s3.pause()

    assert all(failure.retryable for failure in await all_acts(pictures))


async def test_missing_bucket_is_a_permanent_failure(s3: S3Server, any_credentials: None) -> None:
    pictures = at(s3.url, "nowhere")

    for act in (pictures.put(KEY, b"a picture"), pictures.get(KEY), pictures.remove(KEY)):
        with pytest.raises(PicturesUnavailable) as failure:
            await act
        assert "bucket not found; create it or correct its name" in failure.value.reason
        assert not failure.value.retryable


async def test_refused_credentials_are_a_permanent_failure(
    any_credentials: None,
) -> None:
    with running_s3(asks_for_proof=True) as server:
        for failure in await all_acts(at(server.url)):
            assert "access denied; check the credentials in the environment" in failure.reason
            assert "canary-any" not in failure.reason
            assert not failure.retryable


async def test_failure_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pictures = ObjectPictureStore((tmp_path / "file" / "pictures").as_uri(), public_url=PUBLIC)

    for failure in await all_acts(pictures):
        assert str(tmp_path / "file") in failure.reason


@pytest.mark.parametrize("url", ["memory://", "http://store.example", "s3://", "az://box", "x"])
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"scheme must be|Account must be|recognise"):
        ObjectPictureStore(url, public_url=PUBLIC)


# --- cache


async def test_cache_drops_the_least_recently_used_picture(pictures: ObjectPictureStore) -> None:
    cache = PictureCache(pictures, max_bytes=20)
    keys = [picture_key(f"scene-{number}", "image/png") for number in range(3)]
    for key in keys:
        await pictures.put(key, b"ten bytes!")
    for key in (keys[0], keys[1], keys[0], keys[2]):
        assert await cache.get(key, ADDRESS) == b"ten bytes!"

    for key in keys:
        await pictures.remove(key)

    assert [await cache.get(key, ADDRESS) is not None for key in keys] == [True, False, True]


async def test_missing_picture_is_cached_for_a_while(
    pictures: ObjectPictureStore, clock: Clock
) -> None:
    cache = PictureCache(pictures, clock=clock)
    assert await cache.get(KEY, ADDRESS) is None

    await pictures.put(KEY, b"a picture")
    assert await cache.get(KEY, ADDRESS) is None
    clock.time += MISSING_TTL

    assert await cache.get(KEY, ADDRESS) == b"a picture"


class Bucket:
    """An S3 bucket that holds one picture, and answers other keys when it may."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.waiting = 0
        self.may_answer = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        key = request.path.rpartition("/")[2]
        self.requests[key] += 1
        if key == KEY:
            return web.Response(body=b"a picture", headers={"ETag": '"1"', "Last-Modified": THEN})
        self.waiting += 1
        await self.may_answer.wait()
        self.waiting -= 1
        return web.Response(status=404)


@pytest.fixture
async def bucket(any_credentials: None) -> AsyncIterator[tuple[Bucket, PictureCache]]:
    bucket, application = Bucket(), web.Application()
    application.router.add_get("/{path:.*}", bucket.answer)
    async with serve_sites([Site("bucket", application, "127.0.0.1", 0, "")]) as addresses:
        yield bucket, PictureCache(at(addresses["bucket"]))
        bucket.may_answer.set()


async def test_invented_keys_use_only_their_address_share(
    bucket: tuple[Bucket, PictureCache],
) -> None:
    store, cache = bucket
    keys = [picture_key(f"made-up-{number}", "image/png") for number in range(100)]

    invented = [asyncio.create_task(cache.get(key, ADDRESS)) for key in keys]
    await eventually(lambda: store.waiting == FETCHES_SHARE)

    assert await cache.get(KEY, "192.0.2.2") == b"a picture"
    assert store.waiting == FETCHES_SHARE
    store.may_answer.set()
    assert await asyncio.gather(*invented) == [None] * len(keys)


async def test_simultaneous_calls_fetch_a_picture_once(
    bucket: tuple[Bucket, PictureCache],
) -> None:
    store, cache = bucket
    store.may_answer.set()
    made_up = picture_key("made-up", "image/png")

    for key in (KEY, made_up):
        await asyncio.gather(*(cache.get(key, ADDRESS) for _ in range(100)))

    assert max(store.requests.values()) <= FETCHES_SHARE


@pytest.mark.parametrize(
    "text",
    ["", "..", "../../etc/passwd", f"../{KEY}", f"{KEY}/..", f"{KEY}\n", f"x{KEY}", "é" + KEY[1:],
     KEY.replace(".png", ".html"), KEY.replace(".png", ""), KEY.upper()],
)  # fmt: skip
async def test_invalid_key_is_not_fetched(any_credentials: None, text: str) -> None:
    unreachable = at(f"http://127.0.0.1:{free_port()}")

    assert await PictureCache(unreachable).get(text, ADDRESS) is None
    with pytest.raises(PicturesUnavailable):
        await PictureCache(unreachable).get(KEY, ADDRESS)
